package ofatf.core;

import java.nio.ByteBuffer;

/** A file that is ready to run. */
public interface Session extends AutoCloseable {
    int nOutputs();

    /**
     * Runs it on whatever its input holds.
     *
     * @return nanoseconds of the inference alone, without copying inputs and outputs
     */
    long run() throws Complaint;

    /**
     * The scores of a square picture, as floats.
     *
     * @throws Complaint the file is no classifier of such pictures
     */
    float[] scores(Picture square, Preprocessing preprocessing) throws Complaint;

    @Override
    void close();

    /** The floats that the stored outputs of a file stand for, computed as {@code ofa-tf} does. */
    final class Outputs {
        private Outputs() {}

        /** How many values an output of this shape has for a picture; a scalar has one. */
        public static int count(int[] shape) {
            int n = 1;
            for (int i = 1; i < shape.length; i++) { // the first is the number of pictures
                n *= shape[i];
            }
            return n;
        }

        /**
         * @param stored in the byte order of the machine
         * @param type "float32", "uint8" or "int8"
         * @param scale of the output's quantisation; 0 for none
         * @param zeroPoint likewise
         */
        public static float[] floats(ByteBuffer stored, String type, int n, float scale, int zeroPoint) throws Complaint {
            float[] values = new float[n];
            for (int i = 0; i < n; i++) {
                if (type.equals("float32")) {
                    values[i] = stored.getFloat(4 * i);
                } else if (type.equals("uint8")) {
                    values[i] = stored.get(i) & 255;
                } else if (type.equals("int8")) {
                    values[i] = stored.get(i);
                } else {
                    throw new Complaint("The file gives " + type + "; float32, uint8 and int8 are known.");
                }
                if (scale != 0) {
                    values[i] = (values[i] - zeroPoint) * scale;
                }
            }
            return values;
        }
    }
}
