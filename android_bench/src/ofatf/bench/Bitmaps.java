package ofatf.bench;

import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import ofatf.core.Accuracy;
import ofatf.core.Complaint;
import ofatf.core.Exif;
import ofatf.core.Picture;

/** Pictures as Android decodes them: at full size, alpha left out, turned upright. */
final class Bitmaps implements Accuracy.Decoder {
    private static final long MOST_PIXELS = 50_000_000;

    @Override
    public Picture decode(byte[] content, String name) throws Complaint {
        BitmapFactory.Options options = new BitmapFactory.Options();
        options.inJustDecodeBounds = true;
        BitmapFactory.decodeByteArray(content, 0, content.length, options);
        long pixels = (long) options.outWidth * options.outHeight;
        if (pixels > MOST_PIXELS) {
            throw new Complaint(name + " has " + pixels + " pixels, more than " + MOST_PIXELS + ".");
        }
        options.inJustDecodeBounds = false;
        options.inPreferredConfig = Bitmap.Config.ARGB_8888;
        options.inPremultiplied = false;
        options.inScaled = false;
        Bitmap bitmap = null;
        try {
            bitmap = BitmapFactory.decodeByteArray(content, 0, content.length, options);
            if (bitmap == null) {
                throw new Complaint(name + " cannot be read as a picture.");
            }
            return picture(bitmap).upright(Exif.orientation(content));
        } catch (OutOfMemoryError error) {
            throw new Complaint(name + " is too large for this phone's memory.");
        } finally {
            if (bitmap != null) {
                bitmap.recycle();
            }
        }
    }

    private static Picture picture(Bitmap bitmap) {
        int width = bitmap.getWidth();
        int height = bitmap.getHeight();
        byte[] rgb = new byte[3 * width * height];
        int[] row = new int[width];
        for (int y = 0, at = 0; y < height; y++) {
            bitmap.getPixels(row, 0, width, 0, y, width, 1);
            for (int colour : row) {
                rgb[at++] = (byte) (colour >> 16);
                rgb[at++] = (byte) (colour >> 8);
                rgb[at++] = (byte) colour;
            }
        }
        return new Picture(width, height, rgb);
    }
}
