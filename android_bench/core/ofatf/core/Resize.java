package ofatf.core;

/**
 * The centre square of a picture at another size, bit for bit as Pillow's {@code ImageOps.fit} with bilinear,
 * anti-aliased filtering, weights of 22 bits, and rounding to 8 bits between rows and columns.
 */
final class Resize {
    private static final int BITS = 22;

    private Resize() {}

    static Picture fit(Picture picture, int size) {
        double width = picture.width;
        double height = picture.height;
        double cropWidth = width >= height ? height : width;
        float left = (float) ((width - cropWidth) * 0.5);
        float right = (float) ((width - cropWidth) * 0.5 + cropWidth);
        float top = (float) ((height - cropWidth) * 0.5);
        float bottom = (float) ((height - cropWidth) * 0.5 + cropWidth);
        Weights across = new Weights(picture.width, left, right, size);
        Weights down = new Weights(picture.height, top, bottom, size);
        // Pillow 13 begins with the columns where that is less work by its estimate; before, always with the rows.
        boolean columnsFirst = size < picture.height && size > 2 * picture.width - picture.height;
        return columnsFirst ? rows(columns(picture, down), across) : columns(rows(picture, across), down);
    }

    /** Every row at another length. */
    private static Picture rows(Picture picture, Weights weights) {
        int size = weights.starts.length;
        byte[] out = new byte[3 * size * picture.height];
        for (int y = 0; y < picture.height; y++) {
            for (int x = 0; x < size; x++) {
                int from = 3 * (y * picture.width + weights.starts[x]);
                weigh(picture.rgb, from, 3, weights, x, out, 3 * (y * size + x));
            }
        }
        return new Picture(size, picture.height, out);
    }

    /** Every column at another length. */
    private static Picture columns(Picture picture, Weights weights) {
        int size = weights.starts.length;
        int width = picture.width;
        byte[] out = new byte[3 * width * size];
        for (int y = 0; y < size; y++) {
            for (int x = 0; x < width; x++) {
                int from = 3 * (weights.starts[y] * width + x);
                weigh(picture.rgb, from, 3 * width, weights, y, out, 3 * (y * width + x));
            }
        }
        return new Picture(width, size, out);
    }

    private static void weigh(byte[] from, int start, int step, Weights weights, int place, byte[] to, int at) {
        int[] w = weights.weights[place];
        int n = weights.counts[place];
        int red = 1 << (BITS - 1);
        int green = red;
        int blue = red;
        for (int i = 0, p = start; i < n; i++, p += step) {
            red += (from[p] & 255) * w[i];
            green += (from[p + 1] & 255) * w[i];
            blue += (from[p + 2] & 255) * w[i];
        }
        to[at] = clip(red >> BITS);
        to[at + 1] = clip(green >> BITS);
        to[at + 2] = clip(blue >> BITS);
    }

    private static byte clip(int value) {
        return (byte) Math.max(0, Math.min(255, value));
    }

    /** What every pixel of the result takes of which pixels along one side. */
    private static final class Weights {
        final int[] starts;
        final int[] counts;
        final int[][] weights;

        Weights(int inSize, float from, float to, int outSize) {
            starts = new int[outSize];
            counts = new int[outSize];
            weights = new int[outSize][];
            double scale = (double) (to - from) / outSize;
            double support = Math.max(scale, 1.0); // half the width of the triangle
            for (int i = 0; i < outSize; i++) {
                double centre = from + (i + 0.5) * scale;
                int low = Math.max(0, (int) (centre - support + 0.5));
                int high = Math.min(inSize, (int) (centre + support + 0.5));
                double[] exact = new double[high - low];
                double sum = 0;
                double inverse = 1.0 / support;
                for (int j = 0; j < exact.length; j++) {
                    exact[j] = Math.max(0, 1.0 - Math.abs((j + low - centre + 0.5) * inverse));
                    sum += exact[j];
                }
                starts[i] = low;
                counts[i] = exact.length;
                weights[i] = new int[exact.length];
                for (int j = 0; j < exact.length; j++) {
                    weights[i][j] = (int) (0.5 + (sum == 0 ? exact[j] : exact[j] / sum) * (1 << BITS));
                }
            }
        }
    }
}
