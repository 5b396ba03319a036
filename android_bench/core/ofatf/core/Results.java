package ofatf.core;

import java.util.LinkedHashMap;
import java.util.Map;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/**
 * What a run found, as JSON: {@code benchmarks} as {@code ofa-tf benchmark --json} prints them, {@code tables} as
 * {@code ofa-tf lut import} takes them, {@code errors} of the cases that could not be measured.
 */
public final class Results {
    public static final String KIND = "ofa-tf android results";
    public static final String RUNTIME = "litert_app";
    /** Raised whenever the meaning of what this app measures or writes changes. */
    public static final int APP_VERSION = 2;
    static final int BINS = 40;

    private Results() {}

    /** The document; of an unfinished run, what there is. */
    public static JSONObject of(Run run) {
        try {
            JSONObject device = run.phone().facts();
            JSONArray benchmarks = new JSONArray();
            JSONArray errors = new JSONArray();
            Map<String, JSONObject> tables = new LinkedHashMap<>();
            for (Run.Measured one : run.measured()) {
                if (one.error() != null) {
                    errors.put(named(one).put("error", one.error()));
                    continue;
                }
                double[] runsMs = one.runsMs();
                if (runsMs.length == 0) {
                    continue;
                }
                benchmarks.put(benchmark(run, one, runsMs, device));
                if (one.what.model.key != null && run.job.precision != null && run.state() == Run.State.FINISHED) {
                    addToTable(tables, run, one, runsMs, device);
                }
            }
            JSONObject document = new JSONObject();
            document.put("schema", 1);
            document.put("kind", KIND);
            document.put("app_version", APP_VERSION);
            document.put("litert", run.engineVersion());
            document.put("state", run.state().name().toLowerCase(java.util.Locale.ROOT));
            document.put("message", run.message());
            document.put("device", device);
            document.put("turns", run.done());
            document.put("rejected_turns", run.rejected());
            document.put("benchmarks", benchmarks);
            document.put("tables", new JSONArray(tables.values()));
            return document.put("errors", errors);
        } catch (JSONException error) {
            throw new IllegalStateException(error); // NaN alone is refused, and none is put in
        }
    }

    /** What of a run the computer follows. */
    public static JSONObject status(Run run) {
        try {
            return new JSONObject()
                .put("schema", 1)
                .put("state", run.state().name().toLowerCase(java.util.Locale.ROOT))
                .put("done", run.done())
                .put("total", run.total())
                .put("message", run.message());
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    private static JSONObject named(Run.Measured one) throws JSONException {
        return new JSONObject()
            .put("file", one.what.model.name)
            .put("in_size", one.what.model.inSize == 0 ? JSONObject.NULL : (Object) one.what.model.inSize)
            .put("threads", one.what.threads)
            .put("delegate", one.what.delegate);
    }

    private static JSONObject runtime(Run run, Run.Measured one) throws JSONException {
        return new JSONObject()
            .put("name", RUNTIME)
            .put("version", run.engineVersion())
            .put("threads", one.what.threads)
            .put("delegate", one.what.delegate);
    }

    private static JSONObject benchmark(Run run, Run.Measured one, double[] runsMs, JSONObject device)
        throws JSONException {
        Job.Model model = one.what.model;
        JSONObject found = new JSONObject();
        found.put("file", model.name);
        found.put("sha256", model.sha256);
        found.put("size_bytes", model.content.length);
        found.put("n_macs", model.export == null ? JSONObject.NULL : (Object) (long) model.export.nMacs);
        found.put("device", device);
        found.put("runtime", runtime(run, one));
        found.put("load_ms", orNull(one.loadMs()));
        found.put("peak_bytes", JSONObject.NULL);
        found.put("n_runs", runsMs.length);
        for (int percent : new int[] {10, 50, 90, 99}) {
            found.put("p" + percent + "_ms", Numbers.percentile(runsMs, percent));
        }
        double[] edges = histogramEdges(runsMs);
        JSONObject histogram = new JSONObject();
        histogram.put("counts", array(Numbers.histogram(runsMs, edges)));
        histogram.put("edges_ms", array(edges));
        found.put("histogram", histogram);
        found.put("per_operator", JSONObject.NULL);
        found.put("in_size", model.inSize == 0 ? JSONObject.NULL : (Object) model.inSize);
        found.put("predicted_ms", model.export == null ? JSONObject.NULL : orNull(model.export.predictedMs));
        return found.put("runs_ms", array(runsMs));
    }

    /** Up to twice the median: the few that are slower would leave no room for the others. */
    public static double[] histogramEdges(double[] runsMs) {
        return Numbers.edges(Numbers.percentile(runsMs, 0), 2 * Numbers.median(runsMs), BINS);
    }

    private static void addToTable(
        Map<String, JSONObject> tables, Run run, Run.Measured one, double[] runsMs, JSONObject device
    ) throws JSONException {
        String setting = one.what.threads + one.what.delegate;
        JSONObject table = tables.get(setting);
        if (table == null) {
            table = new JSONObject();
            table.put("schema", 1);
            table.put("device", device);
            table.put("runtime", runtime(run, one));
            table.put("precision", run.job.precision);
            table.put("source", "measured");
            table.put("statistic", "p10_ms");
            table.put("calibration", JSONObject.NULL);
            table.put("validation", JSONObject.NULL);
            table.put("entries", new JSONObject());
            tables.put(setting, table);
        }
        JSONObject entry = new JSONObject();
        entry.put("median_ms", Numbers.median(runsMs));
        entry.put("p10_ms", Numbers.percentile(runsMs, 10));
        entry.put("p90_ms", Numbers.percentile(runsMs, 90));
        entry.put("runs", runsMs.length);
        table.getJSONObject("entries").put(one.what.model.key, entry);
    }

    private static Object orNull(double value) {
        return Double.isNaN(value) ? JSONObject.NULL : (Object) value;
    }

    private static JSONArray array(double[] values) throws JSONException {
        JSONArray array = new JSONArray();
        for (double value : values) {
            array.put(value);
        }
        return array;
    }

    private static JSONArray array(int[] values) {
        JSONArray array = new JSONArray();
        for (int value : values) {
            array.put(value);
        }
        return array;
    }
}
