package ofatf.core;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;

class NumbersTest {
    private static final double[] RUNS = {3.1, 1.7, 2.9, 9.4, 1.7};

    @Test
    void percentilesLieBetweenValues() {
        assertEquals(2.9, Numbers.median(RUNS));
        assertEquals(1.7, Numbers.percentile(RUNS, 10));
        assertEquals(1.7, Numbers.percentile(RUNS, 0));
        assertEquals(9.4, Numbers.percentile(RUNS, 100));
        assertEquals(6.88, Numbers.percentile(RUNS, 90), 1e-12);
        assertEquals(2.5, Numbers.median(new double[] {1, 2, 3, 4}));
        assertEquals(7, Numbers.percentile(new double[] {7}, 99));
    }

    @Test
    void valuesStayAsTheyWere() {
        double[] values = {2, 1};
        Numbers.median(values);
        assertArrayEquals(new double[] {2, 1}, values);
    }

    @Test
    void nothingHasNoPercentile() {
        assertThrows(IllegalArgumentException.class, () -> Numbers.percentile(new double[0], 50));
        assertThrows(IllegalArgumentException.class, () -> Numbers.percentile(RUNS, 101));
        assertThrows(IllegalArgumentException.class, () -> Numbers.percentile(RUNS, Double.NaN));
    }

    @Test
    void aHistogramCountsWhatIsWithinItsEdges() {
        double[] edges = Numbers.edges(1, 3, 4);
        assertArrayEquals(new double[] {1, 1.5, 2, 2.5, 3}, edges);
        assertArrayEquals(new int[] {1, 1, 0, 3}, Numbers.histogram(new double[] {1, 1.5, 2.5, 3, 2.9, 3.1, 0.9}, edges));
    }

    @Test
    void runsThatTookTheSameTimeHaveAHistogram() {
        double[] same = {2, 2, 2};
        int[] counts = Numbers.histogram(same, Results.histogramEdges(same));
        assertEquals(3, counts[0]);
    }
}
