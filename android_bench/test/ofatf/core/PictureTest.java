package ofatf.core;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.ByteBuffer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PictureTest {
    private static final Preprocessing RAW =
        new Preprocessing(2, 1, new double[] {128, 128, 128}, new double[] {128, 128, 128});

    /** Two columns, three rows, whose red is 1 to 6. */
    private static Picture picture() {
        byte[] rgb = new byte[18];
        for (int i = 0; i < 6; i++) {
            rgb[3 * i] = (byte) (i + 1);
        }
        return new Picture(2, 3, rgb);
    }

    private static String red(Picture picture) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < picture.rgb.length; i += 3) {
            text.append(picture.rgb[i]);
            text.append((i / 3 + 1) % picture.width == 0 ? "/" : "");
        }
        return text.toString();
    }

    @ParameterizedTest
    @CsvSource({
        "0, 12/34/56/", "1, 12/34/56/", "2, 21/43/65/", "3, 65/43/21/", "4, 56/34/12/", "5, 135/246/", "6, 531/642/",
        "7, 642/531/", "8, 246/135/", "9, 12/34/56/"
    })
    void aPictureIsTurnedUpright(int orientation, String expected) {
        assertEquals(expected, red(picture().upright(orientation)));
    }

    @Test
    void theOrientationOfDamagedExifIsNone() {
        assertEquals(1, Exif.orientation(new byte[0]));
        assertEquals(1, Exif.orientation(new byte[] {(byte) 0xFF, (byte) 0xD8, (byte) 0xFF, (byte) 0xE1, 0, 9, 'E'}));
        byte[] file = "\u00FF\u00D8\u00FF\u00E1\0\u0020Exif\0\0MM\0*\0\0\0\u0008\0\1\1\u0012\0\3\0\0\0\1\0\6\0\0"
            .getBytes(java.nio.charset.StandardCharsets.ISO_8859_1);
        assertEquals(6, Exif.orientation(file));
        for (int cut = 0; cut < file.length - 2; cut++) {
            assertEquals(1, Exif.orientation(java.util.Arrays.copyOf(file, cut)), "cut at " + cut);
        }
        file[19] = 127; // a directory far beyond the end
        assertEquals(1, Exif.orientation(file));
    }

    @Test
    void theMiddleOfAPicture() {
        assertEquals("12/34/", red(new Picture(2, 2, new byte[] {1, 0, 0, 2, 0, 0, 3, 0, 0, 4, 0, 0}).middle(2)));
        assertEquals("3/", red(picture().middle(1)));
        Picture square = new Picture(1, 1, new byte[3]);
        assertSame(square, square.middle(1));
        assertThrows(IllegalArgumentException.class, () -> new Picture(2, 2, new byte[3]));
    }

    @Test
    void inputsAreStoredAsTheFileTakesThem() throws Exception {
        Picture square = new Picture(2, 2, new byte[] {0, 1, 2, 127, (byte) 128, (byte) 129, (byte) 254, (byte) 255, 9, 8, 7, 6});
        ByteBuffer uint8 = RAW.input(square, "uint8", 1 / 128f, 128);
        byte[] bytes = new byte[12];
        uint8.get(bytes);
        assertArrayEquals(square.rgb, bytes, "pixels as they are");
        ByteBuffer int8 = RAW.input(square, "int8", 1 / 128f, 0);
        assertEquals(-128, int8.get(0));
        assertEquals(127, int8.get(7));
        ByteBuffer floats = RAW.input(square, "float32", 0, 0);
        assertEquals(-1f, floats.getFloat(0));
        assertEquals(127 / 128f, floats.getFloat(28));
        assertEquals(48, floats.remaining());
        assertThrows(Complaint.class, () -> RAW.input(square, "int16", 0, 0));
    }

    @Test
    void outputsAreReadAsTheFileStoresThem() throws Exception {
        ByteBuffer stored = ByteBuffer.wrap(new byte[] {(byte) 200, 3, 0, 0}).order(java.nio.ByteOrder.LITTLE_ENDIAN);
        assertArrayEquals(new float[] {100f, 1.5f}, Session.Outputs.floats(stored, "uint8", 2, 0.5f, 0));
        assertArrayEquals(new float[] {-29f, 0.5f}, Session.Outputs.floats(stored, "int8", 2, 0.5f, 2));
        assertArrayEquals(new float[] {-56f}, Session.Outputs.floats(stored, "int8", 1, 0, 2));
        stored.putFloat(0, 1.25f);
        assertArrayEquals(new float[] {1.25f}, Session.Outputs.floats(stored, "float32", 1, 0, 0));
        assertThrows(Complaint.class, () -> Session.Outputs.floats(stored, "int64", 1, 0, 0));
    }
}
