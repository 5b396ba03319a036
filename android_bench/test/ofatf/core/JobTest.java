package ofatf.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.Collections;
import org.json.JSONObject;
import org.json.JSONTokener;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class JobTest {
    private static final String TEXT =
        "{'schema': 1, 'precision': 'int8', 'threads': [1, 2], 'delegates': ['none', 'xnnpack'], 'warmup': 5, 'runs': 30,"
            + "'rounds': 3, 'seed': 7, 'files': [{'file': '0.tflite', 'in_size': 64, 'key': 'conv k=3'},"
            + "{'file': '1.tflite', 'in_size': null, 'key': null}]}";

    @TempDir Path root;

    private Folder job(JSONObject document) throws Exception {
        Path folder = root.resolve("job");
        Files.write(folder.resolve("0.tflite"), Files.model("a"));
        Files.write(folder.resolve("1.tflite"), Files.model("b"));
        Files.write(folder.resolve("job.json"), document.toString());
        return Files.folder(folder);
    }

    @Test
    void everyFileHasEverySetting() throws Exception {
        Job job = Job.read(job(new JSONObject(TEXT)));
        assertEquals(8, job.cases.size());
        assertEquals("0.tflite, 1 thread, none", job.cases.get(0).toString());
        assertEquals("1.tflite, 2 threads, xnnpack", job.cases.get(7).toString());
        assertEquals(64, job.cases.get(0).model.inSize);
        assertEquals("conv k=3", job.cases.get(0).model.key);
        assertEquals(0, job.cases.get(7).model.inSize);
        assertEquals(3, job.rounds);
    }

    @Test
    void exportsRunOnEveryDelegate() throws Exception {
        Export export = Export.read(Files.folder(Files.export(root.resolve("first"))));
        Job job = Job.ofExports(Collections.singletonList(export), 1);
        assertEquals(7, job.cases.size(), "three numbers of threads for each CPU delegate, one for NNAPI");
        assertEquals("first, 1 thread, nnapi", job.cases.get(6).toString());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "files     | []                              | `files` is empty",
        "files     | [3]                             | must be a list of objects",
        "files     | [{\"file\": \"../0.tflite\"}]   | must be the name of a file beside it",
        "files     | [{\"file\": \"\"}]              | must be the name of a file beside it",
        "files     | [{\"file\": \"2.tflite\"}]      | job/2.tflite is missing",
        "files     | [{\"file\": \"0.tflite\", \"x\": 1}] | has the unknown key `x`",
        "threads   | [0]                             | `threads` (=0) must be a number from 1 to 64",
        "threads   | [1.5]                           | `threads` (=1.5) must be a whole number",
        "threads   | []                              | must each have at least one entry",
        "delegates | [\"tpu\"]                       | may hold [none, xnnpack, nnapi]",
        "runs      | 0                               | `runs` (=0) must be a number from 1",
        "runs      | 2.5                             | must be a whole number",
        "rounds    | \"x\"                           | `rounds` (=x) must be a number",
        "other     | 1                               | has the unknown key `other`",
    })
    void aJobThatWasEditedByHandIsRefused(String key, String value, String said) throws Exception {
        Folder folder = job(new JSONObject(TEXT).put(key, new JSONTokener(value).nextValue()));
        String complaint = assertThrows(Complaint.class, () -> Job.read(folder)).getMessage();
        assertTrue(complaint.contains(said), complaint);
    }
}
