package ofatf.core;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.awt.image.BufferedImage;
import java.awt.image.IndexColorModel;
import java.awt.image.Raster;
import java.io.ByteArrayInputStream;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import javax.imageio.ImageIO;
import org.json.JSONArray;
import org.json.JSONObject;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** Inputs made of pictures, bit for bit those that ofa-tf makes: {@code -Dofatf.pixels=FOLDER} has both. */
class PixelsTest {
    private static final String FOLDER = System.getProperty("ofatf.pixels", "");

    @TestFactory
    List<DynamicTest> inputsAreThoseOfPython() throws Exception {
        List<DynamicTest> tests = new ArrayList<>();
        if (FOLDER.isEmpty()) {
            return tests;
        }
        Path folder = Paths.get(FOLDER);
        JSONArray cases = new JSONObject(new String(read(folder.resolve("cases.json")), "UTF-8")).getJSONArray("cases");
        for (int i = 0; i < cases.length(); i++) {
            JSONObject one = cases.getJSONObject(i);
            tests.add(DynamicTest.dynamicTest(one.getString("file") + ", " + one.getString("type"), () -> check(folder, one)));
        }
        return tests;
    }

    @Test
    void thereAreInputsToCompareWith() {
        assumeTrue(!FOLDER.isEmpty(), "needs -Dofatf.pixels=FOLDER, which the tests of ofa-tf make");
    }

    private static void check(Path folder, JSONObject one) throws Exception {
        byte[] content = read(folder.resolve(one.getString("file")));
        JSONObject pixels = one.getJSONObject("preprocessing");
        Preprocessing preprocessing = new Preprocessing(
            one.getInt("resolution"),
            one.getDouble("crop"),
            Reading.numbers(pixels, "mean", 3, -1e9, 1e9, "mean"),
            Reading.numbers(pixels, "std", 3, 0, 1e9, "std")
        );
        Picture square = preprocessing.square(decode(content).upright(Exif.orientation(content)));
        ByteBuffer input = preprocessing.input(
            square, one.getString("type"), (float) one.getDouble("scale"), one.getInt("zero_point")
        );
        byte[] found = new byte[input.remaining()];
        input.get(found);
        assertArrayEquals(read(folder.resolve(one.getString("expected"))), found);
    }

    private static byte[] read(Path path) throws Exception {
        return java.nio.file.Files.readAllBytes(path);
    }

    /** The stored pixels: colour management of Java's own would change grey ones. */
    private static Picture decode(byte[] content) throws Exception {
        BufferedImage image = ImageIO.read(new ByteArrayInputStream(content));
        Raster raster = image.getRaster();
        boolean grey = raster.getNumBands() < 3 && !(image.getColorModel() instanceof IndexColorModel);
        int width = image.getWidth();
        byte[] rgb = new byte[3 * width * image.getHeight()];
        for (int i = 0; i < width * image.getHeight(); i++) {
            int x = i % width;
            int y = i / width;
            int colour = grey ? raster.getSample(x, y, 0) * 0x10101 : image.getRGB(x, y);
            rgb[3 * i] = (byte) (colour >> 16);
            rgb[3 * i + 1] = (byte) (colour >> 8);
            rgb[3 * i + 2] = (byte) colour;
        }
        return new Picture(width, image.getHeight(), rgb);
    }
}
