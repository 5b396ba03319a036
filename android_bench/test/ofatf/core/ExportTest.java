package ofatf.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.Arrays;
import org.json.JSONObject;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ExportTest {
    @TempDir Path root;

    private String complaint(Path folder) {
        return assertThrows(Complaint.class, () -> Export.read(Files.folder(folder))).getMessage();
    }

    @Test
    void anExportIsRead() throws Exception {
        Export export = Export.read(Files.folder(Files.export(root.resolve("first"))));
        assertEquals("first", export.name);
        assertEquals(10, export.labels.size());
        assertEquals(32, export.resolution);
        assertEquals(0.875, export.preprocessing.crop);
        assertEquals(1.5, export.predictedMs);
        assertEquals(10, export.predictedPercentile);
        assertEquals("measured", export.tableSource);
        export.checkLabels(10);
    }

    @Test
    void anExportWithoutAPredictionIsRead() throws Exception {
        byte[] model = Files.model("x");
        JSONObject manifest = Files.manifest(model);
        manifest.put("predicted_ms", JSONObject.NULL).put("table_source", JSONObject.NULL);
        manifest.remove("crop"); // as older exports have none
        Export export = Export.read(Files.folder(Files.export(root.resolve("a"), model, manifest, "a\r\nb\r\n")));
        assertTrue(Double.isNaN(export.predictedMs));
        assertEquals(1, export.preprocessing.crop);
        assertEquals(Arrays.asList("a", "b"), export.labels);
    }

    @Test
    void aTruncatedFileIsRefused() throws Exception {
        Path folder = Files.export(root.resolve("a"));
        Files.write(folder.resolve("model.tflite"), Arrays.copyOf(Files.model("weights"), 9));
        assertEquals("a/model.tflite is truncated: it has 9 bytes instead of 15. Copy it again.", complaint(folder));
    }

    @Test
    void anotherFileIsRefused() throws Exception {
        Path folder = Files.export(root.resolve("a"));
        Files.write(folder.resolve("model.tflite"), Files.model("weighty"));
        assertTrue(complaint(folder).contains("is not the file that manifest.json describes: its SHA-256 differs"));
        Files.write(folder.resolve("model.tflite"), Files.model("longer than it was"));
        assertTrue(complaint(folder).contains("is not the file of its manifest: it has 26 bytes"));
    }

    @Test
    void whatIsNotTfliteIsRefused() throws Exception {
        byte[] model = "no model at all".getBytes();
        Path folder = Files.export(root.resolve("a"), model, Files.manifest(model), "a\nb\n");
        assertEquals("a/model.tflite is not a TFLite file.", complaint(folder));
    }

    @Test
    void aLabelCountThatDoesNotMatchIsSaid() throws Exception {
        Export export = Export.read(Files.folder(Files.export(root.resolve("a"))));
        Complaint complaint = assertThrows(Complaint.class, () -> export.checkLabels(9));
        assertEquals("a/labels.txt has 10 labels, and the file has 9 outputs.", complaint.getMessage());
    }

    @ParameterizedTest
    @CsvSource({"manifest.json", "model.tflite", "labels.txt"})
    void aMissingFileIsNamed(String name) throws Exception {
        Path folder = Files.export(root.resolve("a"));
        java.nio.file.Files.delete(folder.resolve(name));
        assertEquals("a/" + name + " is missing or cannot be opened.", complaint(folder));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "'{'                             | is not valid JSON",
        "'[1]'                           | must hold a JSON object",
        "'{\"schema\": 1} x'             | something follows its end",
        "'{\"schema\": 2}'               | has schema 2; this app reads schema 1",
        "'{}'                            | has schema null",
        "'{\"schema\": 1}'               | `sha256` (=null) must be a string",
    })
    void aWrongManifestIsRefused(String text, String said) throws Exception {
        Path folder = Files.export(root.resolve("a"));
        Files.write(folder.resolve("manifest.json"), text);
        assertTrue(complaint(folder).startsWith("a/manifest.json"), complaint(folder));
        assertTrue(complaint(folder).contains(said), complaint(folder));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "n_macs        | \"many\"                          | `n_macs` (=many) must be a number",
        "size_bytes    | 1.5                               | `size_bytes` (=1.5) must be a whole number",
        "size_bytes    | -1                                | from 1 to 536870912",
        "crop          | 0                                 | `crop` (=0) must be a number from 0.01 to 1",
        "arch          | {\"resolution\": 100000}          | `resolution` (=100000) must be a number from 1 to 4096",
        "arch          | 3                                 | `arch` (=3) must be an object",
        "preprocessing | {\"mean\": [1], \"std\": [1]}     | `mean` (=[1]) must have 3 numbers",
        "preprocessing | {\"mean\": [1, 2, 3], \"std\": [1, 0, 1]} | `std` (=0) must be a number",
        "device        | {}                                | `name` (=null) must be a string",
        "predicted_ms  | \"fast\"                          | `predicted_ms` (=fast) must be a number",
    })
    void aManifestThatWasEditedByHandIsRefused(String key, String value, String said) throws Exception {
        byte[] model = Files.model("x");
        JSONObject manifest = Files.manifest(model);
        manifest.put(key, new org.json.JSONTokener(value).nextValue());
        String complaint = complaint(Files.export(root.resolve("a"), model, manifest, "a\n"));
        assertTrue(complaint.contains(said), complaint);
    }

    @Test
    void labelsThatAreNotUtf8AreRefused() throws Exception {
        Path folder = Files.export(root.resolve("a"));
        Files.write(folder.resolve("labels.txt"), new byte[] {(byte) 0xFF, 10});
        assertEquals("a/labels.txt is not text in UTF-8.", complaint(folder));
    }
}
