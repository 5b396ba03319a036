package ofatf.core;

/** The orientation of a picture, from the Exif data of a JPEG, PNG or WebP file. */
public final class Exif {
    private static final int ORIENTATION = 0x0112;

    private Exif() {}

    /** The orientation, 1 to 8; 1 where the file does not tell, or what it tells is damaged. */
    public static int orientation(byte[] file) {
        try {
            int start = exif(file);
            return start < 0 ? 1 : ofTiff(file, start);
        } catch (IndexOutOfBoundsException damaged) {
            return 1;
        }
    }

    /** Where the Exif data begins; -1 without. */
    private static int exif(byte[] b) {
        if ((b[0] & 255) == 0xFF && (b[1] & 255) == 0xD8) {
            int at = 2;
            while ((b[at] & 255) == 0xFF) {
                int marker = b[at + 1] & 255;
                if (marker == 0xDA) {
                    return -1;
                }
                if (marker == 0xFF) { // filling
                    at++;
                    continue;
                }
                if (marker == 0xE1 && is(b, at + 4, "Exif\0\0")) {
                    return at + 10;
                }
                at += 2 + number(b, at + 2, 2, true);
            }
            return -1;
        }
        if ((b[0] & 255) == 0x89 && is(b, 1, "PNG")) {
            for (int at = 8; !is(b, at + 4, "IEND"); at += 12 + length(b, at, true)) {
                if (is(b, at + 4, "eXIf")) {
                    return at + 8;
                }
            }
            return -1;
        }
        if (is(b, 0, "RIFF") && is(b, 8, "WEBP")) {
            for (int at = 12; at + 8 <= b.length; at += 8 + length(b, at + 4, false) + (length(b, at + 4, false) & 1)) {
                if (is(b, at, "EXIF")) {
                    return is(b, at + 8, "Exif\0\0") ? at + 14 : at + 8;
                }
            }
        }
        return -1;
    }

    private static int ofTiff(byte[] b, int start) {
        boolean big = b[start] == 'M';
        int directory = start + length(b, start + 4, big);
        int entries = number(b, directory, 2, big);
        for (int i = 0; i < entries; i++) {
            int entry = directory + 2 + 12 * i;
            if (number(b, entry, 2, big) == ORIENTATION) {
                int value = number(b, entry + 8, 2, big);
                return value >= 1 && value <= 8 ? value : 1;
            }
        }
        return 1;
    }

    private static int length(byte[] b, int at, boolean big) {
        int value = number(b, at, 4, big);
        if (value < 0 || value > b.length) {
            throw new IndexOutOfBoundsException();
        }
        return value;
    }

    private static int number(byte[] b, int at, int n, boolean big) {
        int value = 0;
        for (int i = 0; i < n; i++) {
            value = value << 8 | (b[at + (big ? i : n - 1 - i)] & 255);
        }
        return value;
    }

    private static boolean is(byte[] b, int at, String text) {
        for (int i = 0; i < text.length(); i++) {
            if (b[at + i] != text.charAt(i)) {
                return false;
            }
        }
        return true;
    }
}
