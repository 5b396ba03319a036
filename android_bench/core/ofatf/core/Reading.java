package ofatf.core;

import java.io.ByteArrayOutputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;
import org.json.JSONTokener;

/** Reading files that may be anybody's: bounded, checked, and with a sentence about what is wrong. */
public final class Reading {
    private Reading() {}

    /** All bytes of a file of a folder, of which it may not have more than {@code most}. */
    public static byte[] bytes(Folder folder, String name, int most) throws Complaint {
        String where = folder.name() + "/" + name;
        try (InputStream stream = folder.open(name)) {
            return bytes(stream, where, most);
        } catch (FileNotFoundException missing) {
            throw new Complaint(where + " is missing or cannot be opened.");
        } catch (IOException error) {
            throw new Complaint(where + " cannot be read: " + error.getMessage() + ".");
        }
    }

    /** All bytes of a stream, of which it may not have more than {@code most}. */
    public static byte[] bytes(InputStream stream, String where, int most) throws IOException, Complaint {
        ByteArrayOutputStream content = new ByteArrayOutputStream();
        byte[] part = new byte[1 << 16];
        for (int n = stream.read(part); n >= 0; n = stream.read(part)) {
            content.write(part, 0, n);
            if (content.size() > most) {
                throw new Complaint(where + " has more than " + most + " bytes.");
            }
        }
        return content.toByteArray();
    }

    public static String text(byte[] content, String where) throws Complaint {
        try {
            return StandardCharsets.UTF_8
                .newDecoder()
                .onMalformedInput(CodingErrorAction.REPORT)
                .decode(ByteBuffer.wrap(content))
                .toString();
        } catch (CharacterCodingException error) {
            throw new Complaint(where + " is not text in UTF-8.");
        }
    }

    /** A JSON object with {@code "schema": 1}. */
    public static JSONObject document(byte[] content, String where) throws Complaint {
        Object found;
        try {
            JSONTokener tokener = new JSONTokener(text(content, where));
            found = tokener.nextValue();
            if (tokener.nextClean() != 0) {
                throw new Complaint(where + " is not valid JSON: something follows its end.");
            }
        } catch (JSONException | StackOverflowError error) {
            throw new Complaint(where + " is not valid JSON: " + error.getMessage() + ".");
        }
        if (!(found instanceof JSONObject)) {
            throw new Complaint(where + " must hold a JSON object.");
        }
        JSONObject document = (JSONObject) found;
        if (!Integer.valueOf(1).equals(document.opt("schema"))) {
            throw new Complaint(where + " has schema " + document.opt("schema") + "; this app reads schema 1.");
        }
        return document;
    }

    /** A finite number from low to high. */
    public static double number(JSONObject object, String key, double low, double high, String where) throws Complaint {
        return number(object.opt(key), key, low, high, where);
    }

    private static double number(Object value, String key, double low, double high, String where) throws Complaint {
        double number = value instanceof Number ? ((Number) value).doubleValue() : Double.NaN;
        if (!(number >= low && number <= high)) {
            throw new Complaint(
                where + ": `" + key + "` (=" + value + ") must be a number from " + shown(low) + " to " + shown(high) + "."
            );
        }
        return number;
    }

    /** A whole number from low to high. */
    public static int whole(JSONObject object, String key, int low, int high, String where) throws Complaint {
        return whole(object.opt(key), key, low, high, where);
    }

    private static int whole(Object value, String key, int low, int high, String where) throws Complaint {
        double number = number(value, key, low, high, where);
        if (number != Math.rint(number)) {
            throw new Complaint(where + ": `" + key + "` (=" + value + ") must be a whole number.");
        }
        return (int) number;
    }

    /** A list of whole numbers from low to high. */
    public static int[] wholes(JSONObject object, String key, int low, int high, String where) throws Complaint {
        JSONArray array = array(object, key, where);
        int[] values = new int[array.length()];
        for (int i = 0; i < values.length; i++) {
            values[i] = whole(array.opt(i), key, low, high, where);
        }
        return values;
    }

    /** A number, or NaN where the document has null or nothing. */
    public static double numberOrNothing(JSONObject object, String key, double low, double high, String where)
        throws Complaint {
        return object.isNull(key) ? Double.NaN : number(object, key, low, high, where);
    }

    public static String string(JSONObject object, String key, String where) throws Complaint {
        Object value = object.opt(key);
        if (!(value instanceof String)) {
            throw new Complaint(where + ": `" + key + "` (=" + value + ") must be a string.");
        }
        return (String) value;
    }

    public static JSONObject object(JSONObject object, String key, String where) throws Complaint {
        Object value = object.opt(key);
        if (!(value instanceof JSONObject)) {
            throw new Complaint(where + ": `" + key + "` (=" + value + ") must be an object.");
        }
        return (JSONObject) value;
    }

    public static JSONArray array(JSONObject object, String key, String where) throws Complaint {
        Object value = object.opt(key);
        if (!(value instanceof JSONArray)) {
            throw new Complaint(where + ": `" + key + "` (=" + value + ") must be a list.");
        }
        return (JSONArray) value;
    }

    /** A list of {@code length} numbers. */
    public static double[] numbers(JSONObject object, String key, int length, double low, double high, String where)
        throws Complaint {
        JSONArray array = array(object, key, where);
        if (array.length() != length) {
            throw new Complaint(where + ": `" + key + "` (=" + array + ") must have " + length + " numbers.");
        }
        double[] values = new double[length];
        for (int i = 0; i < values.length; i++) {
            values[i] = number(array.opt(i), key, low, high, where);
        }
        return values;
    }

    /** The lines of a text, without their ends; an empty last line does not count. */
    public static List<String> lines(String text) {
        List<String> lines = new ArrayList<>();
        for (String line : text.split("\n", -1)) {
            lines.add(line.endsWith("\r") ? line.substring(0, line.length() - 1) : line);
        }
        if (lines.get(lines.size() - 1).isEmpty()) {
            lines.remove(lines.size() - 1);
        }
        return lines;
    }

    private static String shown(double value) {
        return value == Math.rint(value) && Math.abs(value) < 1e15 ? Long.toString((long) value) : Double.toString(value);
    }
}
