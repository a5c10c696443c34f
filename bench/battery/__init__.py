"""What every entry must do, checked on a tiny model: by `bench check`, and by the tests over all that is there."""
