package ofatf.core;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** What is done to a picture before a file sees it, bit for bit as {@code ofa-tf evaluate} does it. */
public final class Preprocessing {
    public final int resolution;
    /** Share of the side of the centre square that is seen. */
    public final double crop;
    private final float[] mean = new float[3];
    private final float[] std = new float[3];

    public Preprocessing(int resolution, double crop, double[] mean, double[] std) {
        this.resolution = resolution;
        this.crop = crop;
        for (int i = 0; i < 3; i++) {
            this.mean[i] = (float) mean[i];
            this.std[i] = (float) std[i];
        }
    }

    /** The part that the file sees, at its resolution. */
    public Picture square(Picture upright) {
        int larger = Math.max(resolution, (int) Math.rint(resolution / crop));
        return Resize.fit(upright, larger).middle(resolution);
    }

    /**
     * The input of the file, in the byte order of the machine.
     *
     * @param square of the resolution
     * @param type "float32", "uint8" or "int8"
     * @param scale of the input's quantisation; 0 for none
     * @param zeroPoint likewise
     */
    public ByteBuffer input(Picture square, String type, float scale, int zeroPoint) throws Complaint {
        boolean floats = type.equals("float32");
        boolean signed = type.equals("int8");
        if (!floats && !signed && !type.equals("uint8")) {
            throw new Complaint("The file takes " + type + "; float32, uint8 and int8 are known.");
        }
        byte[] rgb = square.rgb;
        ByteBuffer input = ByteBuffer.allocateDirect(rgb.length * (floats ? 4 : 1)).order(ByteOrder.nativeOrder());
        int low = signed ? -128 : 0;
        for (int i = 0; i < rgb.length; i++) {
            float value = ((rgb[i] & 255) - mean[i % 3]) / std[i % 3];
            if (floats) {
                input.putFloat(value);
            } else {
                float stored = (float) Math.rint(value / (scale == 0 ? 1f : scale)) + zeroPoint;
                input.put((byte) Math.max(low, Math.min(low + 255, stored)));
            }
        }
        input.rewind();
        return input;
    }
}
