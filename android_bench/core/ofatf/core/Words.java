package ofatf.core;

import java.util.List;
import java.util.Locale;

/** What is shown, as text. */
public final class Words {
    private Words() {}

    /** Three significant digits: {@code 0.0123 ms}, {@code 1.23 ms}, {@code 1234 ms}. */
    public static String milliseconds(double ms) {
        if (ms == 0) {
            return "0 ms";
        }
        int decimals = (int) Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(Math.abs(ms)))));
        return String.format(Locale.ROOT, "%." + decimals + "f ms", ms);
    }

    /** What a run is doing. */
    public static String status(Run run) {
        switch (run.state()) {
            case IDLE:
                return "Ready.";
            case LOADING:
                return "Loading the files.";
            case WARM_UP:
                return "Warming up.";
            case ROUNDS:
                String waits = run.message().isEmpty() ? "" : " " + run.message();
                return "Measuring: " + run.done() + " of " + run.total() + " turns. Leave the phone alone." + waits;
            case CANCELLED:
                return "Cancelled; what was measured before is shown.";
            case FAILED:
                return run.message();
            default:
                return "Finished" + (run.rejected() == 0 ? "." : "; " + run.rejected() + " turns were rejected and repeated.");
        }
    }

    /** A row of the table, in two lines: what ran, and its times or why there are none. */
    public static String[] row(Run.Measured one) {
        String what = one.what.toString();
        if (one.error() != null) {
            return new String[] {what, one.error()};
        }
        double[] runsMs = one.runsMs();
        if (runsMs.length == 0) {
            return new String[] {what, "not measured yet"};
        }
        String times = "median " + milliseconds(Numbers.median(runsMs)) + ", p10 "
            + milliseconds(Numbers.percentile(runsMs, 10)) + ", p90 " + milliseconds(Numbers.percentile(runsMs, 90));
        return new String[] {what, times + prediction(one.what.model.export)};
    }

    private static String prediction(Export export) {
        if (export == null || Double.isNaN(export.predictedMs)) {
            return "";
        }
        String statistic = export.predictedPercentile == 50 ? "median" : "p10";
        return "; predicted for " + export.device + ": " + statistic + " " + milliseconds(export.predictedMs)
            + (export.tableSource == null ? "" : " (" + export.tableSource + " table)");
    }

    /** The five largest outputs of a picture, a line each. */
    public static String topFive(Export export, float[] scores) {
        StringBuilder text = new StringBuilder();
        for (int output : Ranking.top(scores, 5)) {
            text.append(export.labels.get(output)).append(String.format(Locale.ROOT, ": %.3g%n", scores[output]));
        }
        return text.toString();
    }

    public static String accuracy(Accuracy found) {
        String text = found.n == 0 ? "no pictures were classified" : String.format(
            Locale.ROOT,
            "%.1f %% of %d pictures right (95 %% interval: %.1f to %.1f %%), %.1f %% among the first five",
            100.0 * found.top1 / found.n,
            found.n,
            100 * Accuracy.low(found.top1, found.n),
            100 * Accuracy.high(found.top1, found.n),
            100.0 * found.top5 / found.n
        );
        return found.unreadable == 0 ? text + "." : text + "; " + found.unreadable + " could not be read: " + found.firstComplaint;
    }

    /** A name for a device in a latency table, such as {@code google-pixel-6}. */
    public static String deviceName(String maker, String model) {
        String both = model.toLowerCase(Locale.ROOT).startsWith(maker.toLowerCase(Locale.ROOT)) ? model : maker + " " + model;
        String name = both.toLowerCase(Locale.ROOT).replaceAll("[^a-z0-9]+", "-").replaceAll("^-|-$", "");
        return name.isEmpty() ? "android" : "android".equals(name) || name.startsWith("adb") ? "android-" + name : name;
    }

    /** Sentences, a line each. */
    public static String lines(List<String> sentences) {
        StringBuilder text = new StringBuilder();
        for (String sentence : sentences) {
            text.append(sentence).append('\n');
        }
        return text.toString();
    }
}
