package ofatf.core;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ChosenTest {
    @TempDir Path root;
    private final StandIn phone = new StandIn();

    @Test
    void aFolderOfExports() throws Exception {
        Files.export(root.resolve("b"));
        Files.export(root.resolve("a"));
        Files.export(root.resolve("broken"));
        Files.write(root.resolve("broken/model.tflite"), "x");
        Files.write(root.resolve("other/notes.txt"), "x");
        Chosen chosen = Chosen.in(Files.folder(root));
        assertEquals(2, chosen.exports.size());
        assertEquals("a", chosen.exports.get(0).name);
        assertEquals(1, chosen.complaints.size());
        assertTrue(chosen.complaints.get(0).startsWith("broken/model.tflite is truncated"));
    }

    @Test
    void anExportItself() throws Exception {
        Chosen chosen = Chosen.in(Files.folder(Files.export(root.resolve("a"))));
        assertEquals("a", chosen.exports.get(0).name);
    }

    @Test
    void aFolderOfNothing() {
        Complaint complaint = assertThrows(Complaint.class, () -> Chosen.in(Files.folder(root)));
        assertEquals(
            root.getFileName() + " holds neither a manifest.json nor a job.json: choose a folder made by `ofa-tf export` or"
                + " `ofa-tf lut job`, or one that holds exports.",
            complaint.getMessage()
        );
        assertThrows(Complaint.class, () -> Chosen.in(Files.folder(root.resolve("gone"))));
    }

    @Test
    void timesHaveThreeDigits() {
        assertEquals("1.23 ms", Words.milliseconds(1.2345));
        assertEquals("0.0123 ms", Words.milliseconds(0.012345));
        assertEquals("12.3 ms", Words.milliseconds(12.345));
        assertEquals("1235 ms", Words.milliseconds(1234.6));
        assertEquals("0 ms", Words.milliseconds(0));
    }

    @Test
    void aRowStandsBesideItsPrediction() throws Exception {
        Export export = Export.read(Files.folder(Files.export(root.resolve("first"))));
        phone.refused.put("nnapi", new Complaint("This phone has no NNAPI."));
        Run run = new Run(Job.ofExports(Collections.singletonList(export), 1), phone, phone, one -> {});
        assertEquals("not measured yet", Words.row(run.measured().get(0))[1]);
        assertEquals("Ready.", Words.status(run));
        run.run();
        String[] expected = {
            "first, 1 thread, none",
            "median 0.00100 ms, p10 0.00100 ms, p90 0.00100 ms; predicted for host: p10 1.50 ms (measured table)"
        };
        assertArrayEquals(expected, Words.row(run.measured().get(0)));
        assertEquals("This phone has no NNAPI.", Words.row(run.measured().get(6))[1]);
        assertEquals("Finished.", Words.status(run));
    }

    @Test
    void theFirstFiveAndTheAccuracyAreSaid() throws Exception {
        Export export = Export.read(Files.folder(Files.export(root.resolve("first"))));
        String[] lines = Words.topFive(export, new float[] {0, 9, 1, 2, 3, 4, 0, 0, 0, 0}).split("\\R");
        assertEquals(Arrays.asList("1: 9.00", "5: 4.00", "4: 3.00", "3: 2.00", "2: 1.00"), Arrays.asList(lines));
        Accuracy found = new Accuracy();
        found.n = 10;
        found.top1 = 5;
        found.top5 = 9;
        assertEquals(
            "50.0 % of 10 pictures right (95 % interval: 23.7 to 76.3 %), 90.0 % among the first five.", Words.accuracy(found)
        );
    }

    @Test
    void aPhoneHasANameThatATableCanHave() {
        assertEquals("google-pixel-6", Words.deviceName("Google", "Pixel 6"));
        assertEquals("oneplus-9", Words.deviceName("OnePlus", "OnePlus 9"));
        assertEquals("android", Words.deviceName("", "?"));
        assertEquals("android-adb-1", Words.deviceName("adb", "1"));
    }
}
