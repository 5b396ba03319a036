package ofatf.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import org.json.JSONArray;
import org.json.JSONObject;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ResultsTest {
    private final StandIn phone = new StandIn();

    private Run run(String precision, Job.Case... cases) {
        return new Run(new Job(Arrays.asList(cases), 1, 10, 2, 1, precision), phone, phone, run -> {});
    }

    private static Job.Case block(String key, int size, int threads) {
        return new Job.Case(Files.plain(key + ".tflite", size, key), threads, "xnnpack");
    }

    @Test
    void aFileIsABenchmark(@TempDir Path root) throws Exception {
        Export export = Export.read(Files.folder(Files.export(root.resolve("first"))));
        phone.refused.put("nnapi", new Complaint("This phone has no NNAPI."));
        Run run = new Run(Job.ofExports(Collections.singletonList(export), 1), phone, phone, one -> {});
        run.run();
        JSONObject results = new JSONObject(Results.of(run).toString());
        assertEquals("finished", results.getString("state"));
        assertEquals(6, results.getJSONArray("benchmarks").length());
        JSONObject first = results.getJSONArray("benchmarks").getJSONObject(0);
        assertEquals("first", first.getString("file"));
        assertEquals(export.sha256, first.getString("sha256"));
        assertEquals(1000, first.getInt("n_macs"));
        assertEquals(150, first.getInt("n_runs"));
        assertEquals(0.001, first.getDouble("p50_ms"), 1e-12);
        assertEquals(41, first.getJSONObject("histogram").getJSONArray("edges_ms").length());
        assertEquals("acme-one", first.getJSONObject("device").getString("name"));
        assertEquals("litert_app", first.getJSONObject("runtime").getString("name"));
        assertEquals(1.5, first.getDouble("predicted_ms"));
        JSONObject error = results.getJSONArray("errors").getJSONObject(0);
        assertEquals("nnapi", error.getString("delegate"));
        assertEquals("This phone has no NNAPI.", error.getString("error"));
        assertEquals(0, results.getJSONArray("tables").length(), "a network is no block");
    }

    @Test
    void blocksMakeATableForEachSetting() throws Exception {
        Run run = run("int8", block("conv a", 100, 1), block("conv b", 2000, 1), block("conv a", 100, 2));
        run.run();
        JSONArray tables = Results.of(run).getJSONArray("tables");
        assertEquals(2, tables.length());
        JSONObject table = tables.getJSONObject(0);
        assertEquals(1, table.getInt("schema"));
        assertEquals("measured", table.getString("source"));
        assertEquals("int8", table.getString("precision"));
        JSONObject entry = table.getJSONObject("entries").getJSONObject("conv b");
        assertEquals(0.2, entry.getDouble("p10_ms"), 1e-12);
        assertEquals(20, entry.getInt("runs"));
        assertEquals(2, tables.getJSONObject(1).getJSONObject("runtime").getInt("threads"));
        assertEquals(1, tables.getJSONObject(1).getJSONObject("entries").length());
    }

    @Test
    void aRunThatWasCancelledMakesNoTable() throws Exception {
        Run run = run("int8", block("conv a", 100, 1));
        phone.beforeRun = () -> {
            if (phone.runs > 15) {
                run.cancel();
            }
        };
        run.run();
        JSONObject results = Results.of(run);
        assertEquals("cancelled", results.getString("state"));
        assertEquals(0, results.getJSONArray("tables").length());
        assertEquals(1, results.getJSONArray("benchmarks").length());
    }

    @Test
    void aRunThatHasNotBegunHasNoResults() throws Exception {
        JSONObject results = Results.of(run(null, block("a", 1, 1)));
        assertEquals("idle", results.getString("state"));
        assertEquals(0, results.getJSONArray("benchmarks").length());
    }

    @Test
    void theStatusIsFollowed(@TempDir Path root) throws Exception {
        File folder = root.resolve("runs/1").toFile();
        Reporter reporter = new Reporter(folder);
        Run run = new Run(run(null, block("a", 10, 1)).job, phone, phone, one -> {
            reporter.changed(one);
            try {
                JSONObject status = read(new File(folder, "status.json"));
                assertEquals(one.state().name().toLowerCase(), status.getString("state"));
                assertEquals(2, status.getInt("total"));
                assertEquals(one.state().isFinal(), new File(folder, "results.json").exists());
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
        run.run();
        assertEquals(Run.State.FINISHED, run.state());
        assertEquals("finished", read(new File(folder, "results.json")).getString("state"));
        assertEquals(2, folder.list().length, "nothing half-written is left");
    }

    @Test
    void aFolderThatCannotBeWrittenIsNoticed(@TempDir Path root) throws Exception {
        Files.write(root.resolve("file"), "x");
        Reporter reporter = new Reporter(root.resolve("file/runs").toFile());
        Run run = new Run(run(null, block("a", 10, 1)).job, phone, phone, reporter);
        run.run();
        assertEquals(Run.State.FINISHED, run.state(), "the run does not need it");
        assertTrue(reporter.problem().startsWith("results.json could not be saved: there is no folder "), reporter.problem());
        assertTrue(reporter.problem().contains("status.json could not be saved: "), reporter.problem());
        Reporter early = new Reporter(root.resolve("file/runs").toFile());
        assertEquals("", early.problem());
        early.failed("The job cannot be read.");
        assertTrue(early.problem().startsWith("status.json could not be saved: "), early.problem());
    }

    @Test
    void resultsThatCannotBeWrittenAreAFailure(@TempDir Path root) throws Exception {
        Files.write(root.resolve("results.json.tmp/file"), "in the way");
        Reporter reporter = new Reporter(root.toFile());
        Run run = new Run(run(null, block("a", 10, 1)).job, phone, phone, reporter);
        run.run();
        assertEquals(Run.State.FINISHED, run.state());
        assertTrue(reporter.problem().startsWith("results.json could not be saved: "), reporter.problem());
        JSONObject status = read(root.resolve("status.json").toFile());
        assertEquals("failed", status.getString("state"), "the computer does not wait for them");
        assertEquals(reporter.problem(), status.getString("message"));
    }

    @Test
    void aRunThatFailedSaysWhyAlthoughItsResultsCannotBeWritten(@TempDir Path root) throws Exception {
        Files.write(root.resolve("results.json.tmp/file"), "in the way");
        phone.refused.put("xnnpack", new Complaint("No."));
        Reporter reporter = new Reporter(root.toFile());
        new Run(run(null, block("a", 10, 1)).job, phone, phone, reporter).run();
        assertEquals(
            "No file can be measured; the first says: No. " + reporter.problem(),
            read(root.resolve("status.json").toFile()).getString("message")
        );
        assertTrue(reporter.problem().startsWith("results.json could not be saved: "), reporter.problem());
    }

    @Test
    void aJobThatCannotBeReadIsReported(@TempDir Path root) throws Exception {
        StandIn.main(new String[] {root.resolve("none").toString(), root.resolve("out").toString()});
        JSONObject status = read(root.resolve("out/status.json").toFile());
        assertEquals("failed", status.getString("state"));
        assertEquals("none/job.json is missing or cannot be opened.", status.getString("message"));
        assertFalse(root.resolve("out/results.json").toFile().exists());
        assertTrue(status.has("done"));
    }

    private static JSONObject read(File file) throws Exception {
        return new JSONObject(new String(java.nio.file.Files.readAllBytes(file.toPath()), "UTF-8"));
    }
}
