package ofatf.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AccuracyTest {
    @TempDir Path root;
    private final StandIn phone = new StandIn();
    private Export export;

    @BeforeEach
    void exported() throws Exception {
        byte[] model = Files.model("x");
        String labels = "red fox\nCardigan\ncardigan\n\u00C4hre\n4\n5\n6\n7\n8\n9\n";
        export = Export.read(Files.folder(Files.export(root.resolve("a"), model, Files.manifest(model), labels)));
    }

    /** A file's first byte is the class that the stand-in sees. */
    private static Picture decode(byte[] content, String name) throws Complaint {
        if (content.length == 0) {
            throw new Complaint(name + " is empty.");
        }
        byte[] rgb = new byte[3];
        rgb[0] = content[0];
        return new Picture(1, 1, rgb);
    }

    private Accuracy measure(Accuracy.Watcher watcher) throws Complaint {
        Session session = phone.open(export.model, 1, "none", 0);
        return Accuracy.measure(export, session, Files.folder(root.resolve("pictures")), AccuracyTest::decode, watcher);
    }

    private void picture(String name, int... content) throws Exception {
        byte[] bytes = new byte[content.length];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) content[i];
        }
        Files.write(root.resolve("pictures").resolve(name), bytes);
    }

    @Test
    void hitsAreCounted() throws Exception {
        picture("red_fox/1.jpg", 0);
        picture("red_fox/2.PNG", 1);
        picture("9/3.jpg", 0);
        picture("9/notes.txt", 9);
        picture("cardigan/4.webp", 2);
        picture("cardigan/5.jpg");
        Accuracy found = measure(soFar -> true);
        assertEquals(4, found.n);
        assertEquals(2, found.top1);
        assertEquals(3, found.top5, "the ninth of equals is not among the first five");
        assertEquals(1, found.unreadable);
        assertEquals("5.jpg is empty.", found.firstComplaint);
    }

    @Test
    void itCanBeEnded() throws Exception {
        picture("4/1.jpg", 4);
        picture("4/2.jpg", 4);
        assertEquals(1, measure(soFar -> false).n);
    }

    @Test
    void itCanBeEndedBeforeAPictureWasClassified() throws Exception {
        picture("4/1.jpg");
        picture("4/2.jpg", 4);
        assertEquals(
            "no pictures were classified; 1 could not be read: 1.jpg is empty.", Words.accuracy(measure(soFar -> false))
        );
        assertTrue(Words.accuracy(measure(soFar -> true)).startsWith("100.0 % of 1 pictures right (95 % interval: "));
    }

    @Test
    void aFolderOfNoClassIsNamed() throws Exception {
        picture("badger/1.jpg", 0);
        Complaint complaint = assertThrows(Complaint.class, () -> measure(soFar -> true));
        assertEquals("The folder badger is none of the labels of a: rename or move it.", complaint.getMessage());
    }

    @Test
    void namesMayBeWrittenDifferently() throws Exception {
        assertEquals(0, Accuracy.output(export, "Red_Fox"));
        assertEquals(1, Accuracy.output(export, "Cardigan"));
        assertEquals(2, Accuracy.output(export, "cardigan"));
        assertEquals(3, Accuracy.output(export, "A\u0308hre"));
        Complaint complaint = assertThrows(Complaint.class, () -> Accuracy.output(export, "CARDIGAN"));
        assertEquals("The folder CARDIGAN may be each of 2 labels: rename it.", complaint.getMessage());
    }

    @Test
    void aFolderWithoutPicturesIsRefused() throws Exception {
        picture("4/notes.txt", 4);
        assertTrue(assertThrows(Complaint.class, () -> measure(soFar -> true)).getMessage().contains("CLASS/picture.jpg"));
        picture("4/1.jpg");
        assertTrue(assertThrows(Complaint.class, () -> measure(soFar -> true)).getMessage().contains("1.jpg is empty"));
    }

    @Test
    void theIntervalIsWilsons() {
        assertEquals(0.23658959361548731, Accuracy.low(5, 10), 1e-15);
        assertEquals(0.7634104063845126, Accuracy.high(5, 10), 1e-15);
        assertEquals(0, Accuracy.low(0, 10), 1e-12);
        assertEquals(1, Accuracy.high(10, 10), 1e-12);
    }

    @Test
    void theLargestScoresComeFirst() {
        float[] scores = {1, 3, 3, 2};
        assertEquals(Arrays.asList(1, 2, 3), Ranking.top(scores, 3));
        assertEquals(4, Ranking.top(scores, 9).size());
        assertEquals(1, Ranking.rank(scores, 2), "among equals the first comes first");
        assertEquals(0, Ranking.rank(scores, 1));
    }

    @Test
    void aMissingOperatorIsNamed() {
        String said = "Internal error: Cannot create interpreter: Didn't find op for builtin opcode 'GELU' version '2'. An older"
            + " version of this builtin might be supported.\nRegistration failed.";
        assertEquals(
            "The file needs the operator GELU in version 2, which this app's LiteRT lacks.",
            Interpreters.complaint(said).getMessage()
        );
        assertTrue(
            Interpreters.complaint("Encountered unresolved custom op: edgetpu-custom-op.").getMessage()
                .startsWith("The file needs the custom operator edgetpu-custom-op")
        );
        assertEquals("LiteRT refuses the file: nothing", Interpreters.complaint(null).getMessage());
        assertTrue(Interpreters.complaint(new String(new char[999]).replace('\0', 'x')).getMessage().length() < 300);
    }
}
