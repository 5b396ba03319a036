package ofatf.core;

/** A picture: 8 bits for red, green and blue, row by row. */
public final class Picture {
    public final int width;
    public final int height;
    /** Shape (height, width, 3). */
    public final byte[] rgb;

    public Picture(int width, int height, byte[] rgb) {
        if (width < 1 || height < 1 || rgb.length != 3L * width * height) {
            throw new IllegalArgumentException(rgb.length + " bytes are no picture of " + width + " x " + height);
        }
        this.width = width;
        this.height = height;
        this.rgb = rgb;
    }

    /**
     * The picture as it is meant to be seen.
     *
     * @param orientation of Exif, 1 to 8; anything else changes nothing
     */
    public Picture upright(int orientation) {
        if (orientation < 2 || orientation > 8) {
            return this;
        }
        boolean turned = orientation >= 5;
        int w = turned ? height : width;
        int h = turned ? width : height;
        byte[] out = new byte[rgb.length];
        for (int y = 0; y < h; y++) {
            for (int x = 0; x < w; x++) {
                int fromX = turned ? y : x;
                int fromY = turned ? x : y;
                if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) {
                    fromX = width - 1 - fromX;
                }
                if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) {
                    fromY = height - 1 - fromY;
                }
                System.arraycopy(rgb, 3 * (fromY * width + fromX), out, 3 * (y * w + x), 3);
            }
        }
        return new Picture(w, h, out);
    }

    /** A square from the middle, of at most the shorter side. */
    public Picture middle(int side) {
        if (side == width && side == height) {
            return this;
        }
        int left = (width - side) / 2;
        int top = (height - side) / 2;
        byte[] out = new byte[3 * side * side];
        for (int y = 0; y < side; y++) {
            System.arraycopy(rgb, 3 * ((top + y) * width + left), out, 3 * y * side, 3 * side);
        }
        return new Picture(side, side, out);
    }
}
