package ofatf.core;

import java.util.Arrays;

/** Statistics of durations, number for number those of NumPy, so that a phone and a computer agree. */
public final class Numbers {
    private Numbers() {}

    /**
     * A percentile with linear interpolation, as {@code numpy.percentile}.
     *
     * @param values in any order, at least one
     * @param percent 0 to 100
     */
    public static double percentile(double[] values, double percent) {
        if (values.length == 0) {
            throw new IllegalArgumentException("a percentile of no values");
        }
        if (!(percent >= 0 && percent <= 100)) {
            throw new IllegalArgumentException("percent (=" + percent + ") must be from 0 to 100");
        }
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        double place = (sorted.length - 1) * (percent / 100);
        int below = (int) Math.floor(place);
        double share = place - below;
        double low = sorted[below];
        double high = sorted[Math.min(below + 1, sorted.length - 1)];
        return share >= 0.5 ? high - (high - low) * (1 - share) : low + (high - low) * share;
    }

    public static double median(double[] values) {
        return percentile(values, 50);
    }

    /** The ends of the bins: {@code bins + 1} numbers from {@code low} to {@code high}. */
    public static double[] edges(double low, double high, int bins) {
        double[] edges = new double[bins + 1];
        double step = (high - low) / bins;
        for (int i = 0; i <= bins; i++) {
            edges[i] = i * step + low;
        }
        edges[bins] = high;
        return edges;
    }

    /** How many values each bin has, as {@code numpy.histogram}; values beyond the edges are left out. */
    public static int[] histogram(double[] values, double[] edges) {
        int bins = edges.length - 1;
        double low = edges[0];
        double high = edges[bins];
        int[] counts = new int[bins];
        for (double value : values) {
            if (!(value >= low && value <= high)) {
                continue;
            }
            int bin = Math.min((int) ((value - low) / (high - low) * bins), bins - 1);
            if (value < edges[bin]) {
                bin--;
            } else if (bin < bins - 1 && value >= edges[bin + 1]) {
                bin++;
            }
            counts[bin]++;
        }
        return counts;
    }
}
