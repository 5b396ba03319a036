package ofatf.core;

import java.util.ArrayList;
import java.util.List;

/** Which outputs are the largest. Among equals the first comes first, as in {@code ofa-tf evaluate}. */
public final class Ranking {
    private Ranking() {}

    /** The outputs with the largest scores, the largest first. */
    public static List<Integer> top(float[] scores, int n) {
        List<Integer> found = new ArrayList<>();
        while (found.size() < Math.min(n, scores.length)) {
            int best = -1;
            for (int i = 0; i < scores.length; i++) {
                if (!found.contains(i) && (best < 0 || scores[i] > scores[best])) {
                    best = i;
                }
            }
            found.add(best);
        }
        return found;
    }

    /** How many outputs come before this one: 0 is a hit. */
    public static int rank(float[] scores, int output) {
        int before = 0;
        for (int i = 0; i < scores.length; i++) {
            if (scores[i] > scores[output] || (scores[i] == scores[output] && i < output)) {
                before++;
            }
        }
        return before;
    }
}
