"""The rules that a claim rests on, by the letters that code, records and pages cite them by ("protocol B", "A8").

They follow what is known at second hand of the controlled protocol of arXiv:2602.09006, section 5.1, tightened with
what its neighbours learned (arXiv:2509.02046, arXiv:2502.16982, AlgoPerf, MLPerf). Where a rule can be proved, each
run's page shows it with a tick or a cross. CONTRIBUTING.md says where we do otherwise, and why.

A   What is held equal, for every entry at a seed.
A1  Master weights and optimizer state are fp32; what is computed under autocast is bf16, or the mode's arithmetic.
A2  Initial weights, token order, batch and context are the same; an entry that chooses its batches is labelled, and has
    a table of its own.
A3  Every budget is a run of its own, with a whole schedule over tokens: a linear warm-up over a fraction that is tuned,
    then linear to zero. Only the loss at its end is scored. A schedule-free method may hold its rate, which is shown.
A4  What an entry does not claim the harness trains with AdamW, at the yardstick's values for the rest, the same for
    all.
A5  Gradients are clipped at the task's global norm; an entry may declare that it wants none.
A6  The harness evaluates, on the same validation tokens, outside the clock; nothing stops early on a loss.
A7  Speedup divides by charged tokens, which are tokens times passes: a further gradient counts whole, a forward or a
    Jacobian-vector product alone as a third.
A8  The task's batch is the yardstick's best of itself, half and twice it, at 1x.

B   How values are found. The yardstick is AdamW with at least four times an entry's trials, inside its ranges at every
    rung; a trial below it is run at five seeds, and where that holds the first page says so. Every entry has 12 trials
    at the tuning rung: 6 learning rates a factor 2 apart, then 6 points of a scrambled Sobol sequence over all
    dimensions; and 3 learning rates at every further rung. Trials are judged on the selecting half of the validation
    text. Every one of them, failed ones too, is a line of a ledger that is only appended to. Placebos, entries tuned
    again at full price, measure the noise of tuning, which every interval holds; a task on which it is above 0.05 of ln
    speedup ranks nothing, and a placebo that differs from its twin fails the build. On the transfer track all have the
    yardstick's learning rate, warm-up and decay, and updates scaled to its size; a row whose steps turn out to be
    further from it than a factor of 1.25 is not ranked. Declared values are shown, never ranked, and in no release.

C   The headline is speedup at equal loss: tokens that the yardstick needs for the entry's final loss, read off its
    measured ladder by monotone interpolation, over the tokens that the entry was charged. Off the ladder there is a
    bound. A rung is ranked only where the yardstick's seeds tell tokens apart to 5%. What takes more than one pass over
    the text says so.

D   Statistics. Seeds are planned before the first run: 3 for every entry and rung, 5 for the yardstick, 10 at 1x. The
    interval is made in ten lines, those of `bench.score`. Claims over a board take Holm's correction, pairs of entries
    are tested against each other, and a look before seeds are added costs level. Failures are rows with a cause;
    nothing is imputed. A release is a folder that is never rewritten.

E   Quantization. Modes round while training, or finished weights. What a mode costs is compared at equal loss first. A
    mode that rounded nothing makes its run inert.

F   Cost. Steps are timed against the yardstick's in turns, on one machine that does nothing else, between two
    measurements of the same fixed work: where these differ by more than 3%, the timing is refused. "Dominated" is said
    only where the tests say so.

G   Evidence. A row says who ran it: the author, another party, or the maintainers; a rerun is made at seeds drawn from
    the commit that published the plan. On the same kind of machine a replay comes back to the bit; elsewhere within a
    stated band.

H   Tasks and words. A result is worded for its task, size, data and rungs, with nothing claimed beyond them. Beside any
    speedup above 1.4 stands what is known of scale.
"""
