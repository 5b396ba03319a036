package ofatf.core;

import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.json.JSONObject;

/** A folder that {@code ofa-tf export} made: the file, its labels, and what its manifest says about it. */
public final class Export {
    public static final String MANIFEST = "manifest.json";
    static final int MOST_JSON = 1 << 22;
    static final int MOST_LABELS = 1 << 24;
    static final int MOST_MODEL = 1 << 29;

    public final String name;
    public final byte[] model;
    public final String sha256;
    public final List<String> labels;
    public final String precision;
    public final String io;
    public final int resolution;
    public final double nMacs;
    /** Milliseconds, or NaN. */
    public final double predictedMs;
    /** Percentile that the prediction is of: 10 or 50. */
    public final int predictedPercentile;
    public final String device;
    /** "measured", "modelled" or "imported"; null without a prediction. */
    public final String tableSource;
    public final Preprocessing preprocessing;

    private Export(String name, byte[] model, List<String> labels, JSONObject manifest, String where) throws Complaint {
        this.name = name;
        this.model = model;
        this.labels = Collections.unmodifiableList(labels);
        sha256 = Reading.string(manifest, "sha256", where);
        precision = Reading.string(manifest, "precision", where);
        io = Reading.string(manifest, "io", where);
        nMacs = Reading.number(manifest, "n_macs", 0, 1e15, where);
        predictedMs = Reading.numberOrNothing(manifest, "predicted_ms", 0, 1e9, where);
        device = Reading.string(Reading.object(manifest, "device", where), "name", where + ", `device`");
        tableSource = manifest.isNull("table_source") ? null : Reading.string(manifest, "table_source", where);
        predictedPercentile = "median_ms".equals(manifest.opt("latency_statistic")) ? 50 : 10;
        resolution = Reading.whole(Reading.object(manifest, "arch", where), "resolution", 1, 4096, where + ", `arch`");
        JSONObject pixels = Reading.object(manifest, "preprocessing", where);
        preprocessing = new Preprocessing(
            resolution,
            manifest.has("crop") ? Reading.number(manifest, "crop", 0.01, 1, where) : 1,
            Reading.numbers(pixels, "mean", 3, -1e4, 1e4, where + ", `preprocessing`"),
            Reading.numbers(pixels, "std", 3, 1e-9, 1e4, where + ", `preprocessing`")
        );
    }

    /** Whether a folder looks like an export, without reading it. */
    public static boolean isOne(List<String> files) {
        return files.contains(MANIFEST);
    }

    /**
     * Reads and checks an export.
     *
     * @throws Complaint something is missing, damaged, or does not belong together
     */
    public static Export read(Folder folder) throws Complaint {
        String where = folder.name() + "/" + MANIFEST;
        JSONObject manifest = Reading.document(Reading.bytes(folder, MANIFEST, MOST_JSON), where);
        byte[] model = Reading.bytes(folder, "model.tflite", MOST_MODEL);
        String labelsName = folder.name() + "/labels.txt";
        List<String> labels = Reading.lines(Reading.text(Reading.bytes(folder, "labels.txt", MOST_LABELS), labelsName));
        Export export = new Export(folder.name(), model, new ArrayList<>(labels), manifest, where);
        int size = Reading.whole(manifest, "size_bytes", 1, MOST_MODEL, where);
        if (model.length != size) {
            String what = model.length < size ? " is truncated: it has " : " is not the file of its manifest: it has ";
            throw new Complaint(
                folder.name() + "/model.tflite" + what + model.length + " bytes instead of " + size + ". Copy it again."
            );
        }
        if (!sha256(model).equals(export.sha256)) {
            throw new Complaint(
                folder.name() + "/model.tflite is not the file that manifest.json describes: its SHA-256 differs."
            );
        }
        if (size < 8 || model[4] != 'T' || model[5] != 'F' || model[6] != 'L' || model[7] != '3') {
            throw new Complaint(folder.name() + "/model.tflite is not a TFLite file.");
        }
        return export;
    }

    /** Checks that there is a label for every output of the file. */
    public void checkLabels(int nOutputs) throws Complaint {
        if (labels.size() != nOutputs) {
            throw new Complaint(
                name + "/labels.txt has " + labels.size() + " labels, and the file has " + nOutputs
                    + (nOutputs == 1 ? " output." : " outputs.")
            );
        }
    }

    /** SHA-256 in hexadecimal digits. */
    public static String sha256(byte[] content) {
        try {
            StringBuilder text = new StringBuilder();
            for (byte part : MessageDigest.getInstance("SHA-256").digest(content)) {
                text.append(Character.forDigit((part >> 4) & 15, 16)).append(Character.forDigit(part & 15, 16));
            }
            return text.toString();
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error); // every Java has it
        }
    }
}
