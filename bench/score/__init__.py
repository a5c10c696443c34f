"""From records to speedups: pure functions, no torch.

The interval, in ten lines:

1. The yardstick runs its ladder, with a rung at 1.5x because interpolation between 1x and 2x is where bias bites: 5
   seeds a rung, 10 at 1x.
2. The board's noise is s2 = the squared deviations within all cells (entry x rung), over df = the sum of (runs - 1).
3. An entry's noise is v = max(s2, (6 s2 + k s_own2) / (6 + k)): s_own2 is pooled over the entry's own rungs and has k
   degrees of freedom.
4. The margin is m = t_{0.975} sqrt(v / n + s2 / n_ref + t2_entry + t2_ref): t2 are the tuning variances, tau turned
   into loss by the ladder's slope, none in the transfer track; degrees of freedom by Welch and Satterthwaite.
5. The curve is a PCHIP of the ladder's mean losses on log tokens, inverted numerically; where means rise, their running
   minimum is read.
6. The speedup is D_ref(L) / D, its interval [D_ref(L + m), D_ref(L - m)] / D; an end off the ladder is open.
7. An entry beats the reference where the lower end exceeds 1, which is the same as L_ref(D) - L > m: interval and
   test cannot disagree. Claims over a whole board take Holm's adjustment.
8. Entry against entry at one budget: |L_A - L_B| against sqrt((v_A + v_B) / n + t2_A + t2_B), all pairs, Holm at 5%;
   the reference plays no part. Tie letters are the maximal sets with no pair told apart.
9. The probability of being first: the contenders near the leader are shrunk to their own mean by empirical Bayes, and
   the lowest true loss is drawn from what is left, since the raw winner of many is lucky.
10. Seeds are paired across entries, and the correlation that obtains is printed; the margin does not lean on it.
"""
