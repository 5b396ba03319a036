package ofatf.core;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import org.json.JSONArray;
import org.json.JSONObject;

/** What is to be measured: files, each with every setting, in so many rounds. */
public final class Job {
    /** A job of the computer is a folder with a file of this name beside the files to measure. */
    public static final String NAME = "job.json";
    public static final List<String> DELEGATES = Collections.unmodifiableList(Arrays.asList("none", "xnnpack", "nnapi"));
    private static final List<String> KEYS =
        Arrays.asList("schema", "precision", "threads", "delegates", "warmup", "runs", "rounds", "seed", "files");
    private static final List<String> FILE_KEYS = Arrays.asList("file", "in_size", "key");

    public final List<Case> cases;
    public final int warmup;
    public final int runs;
    public final int rounds;
    public final long seed;
    /** Of the files with keys; null without. */
    public final String precision;

    public Job(List<Case> cases, int warmup, int runs, int rounds, long seed, String precision) {
        this.cases = Collections.unmodifiableList(new ArrayList<>(cases));
        this.warmup = warmup;
        this.runs = runs;
        this.rounds = rounds;
        this.seed = seed;
        this.precision = precision;
    }

    /** A file to measure. */
    public static final class Model {
        public final String name;
        public final byte[] content;
        public final String sha256;
        /** 0 to leave its input as it is. */
        public final int inSize;
        /** Of the block that it is, in a latency table; null if it is none. */
        public final String key;
        /** Where it is from; null if it is from a computer's job. */
        public final Export export;

        public Model(String name, byte[] content, int inSize, String key, Export export) {
            this.name = name;
            this.content = content;
            this.sha256 = Export.sha256(content);
            this.inSize = inSize;
            this.key = key;
            this.export = export;
        }
    }

    /** A file with a setting. */
    public static final class Case {
        public final Model model;
        public final int threads;
        public final String delegate;

        public Case(Model model, int threads, String delegate) {
            this.model = model;
            this.threads = threads;
            this.delegate = delegate;
        }

        @Override
        public String toString() {
            return model.name + ", " + threads + (threads == 1 ? " thread, " : " threads, ") + delegate;
        }
    }

    /** All exports with 1, 2 and 4 threads on the CPU, and with NNAPI, which chooses its threads itself. */
    public static Job ofExports(List<Export> exports, long seed) {
        List<Case> cases = new ArrayList<>();
        for (Export export : exports) {
            Model model = new Model(export.name, export.model, 0, null, export);
            for (String delegate : DELEGATES) {
                for (int threads : delegate.equals("nnapi") ? new int[] {1} : new int[] {1, 2, 4}) {
                    cases.add(new Case(model, threads, delegate));
                }
            }
        }
        return new Job(cases, 5, 30, 5, seed, null);
    }

    /**
     * Reads a job of the computer.
     *
     * @throws Complaint something is missing, unknown or out of range
     */
    public static Job read(Folder folder) throws Complaint {
        String where = folder.name() + "/" + NAME;
        JSONObject document = Reading.document(Reading.bytes(folder, NAME, 1 << 24), where);
        checkKeys(document, KEYS, where);
        List<Model> models = new ArrayList<>();
        Map<String, byte[]> contents = new HashMap<>();
        JSONArray files = Reading.array(document, "files", where);
        for (int i = 0; i < files.length(); i++) {
            if (!(files.opt(i) instanceof JSONObject)) {
                throw new Complaint(where + ": `files` must be a list of objects.");
            }
            JSONObject file = (JSONObject) files.opt(i);
            checkKeys(file, FILE_KEYS, where + ", `files`");
            String name = Reading.string(file, "file", where + ", `files`");
            if (name.isEmpty() || name.contains("/") || name.startsWith(".")) {
                throw new Complaint(where + ": `file` (=" + name + ") must be the name of a file beside it.");
            }
            int inSize = file.isNull("in_size") ? 0 : Reading.whole(file, "in_size", 1, 4096, where + ", " + name);
            String key = file.isNull("key") ? null : Reading.string(file, "key", where + ", " + name);
            if (!contents.containsKey(name)) { // a block at several resolutions is one file
                contents.put(name, Reading.bytes(folder, name, Export.MOST_MODEL));
            }
            models.add(new Model(name, contents.get(name), inSize, key, null));
        }
        if (models.isEmpty()) {
            throw new Complaint(where + ": `files` is empty; there is nothing to measure.");
        }
        List<Case> cases = new ArrayList<>();
        JSONArray delegates = Reading.array(document, "delegates", where);
        int[] threads = Reading.wholes(document, "threads", 1, 64, where);
        for (Model model : models) {
            for (int d = 0; d < delegates.length(); d++) {
                if (!DELEGATES.contains(delegates.opt(d))) {
                    throw new Complaint(where + ": `delegates` (=" + delegates + ") may hold " + DELEGATES + ".");
                }
                for (int count : threads) {
                    cases.add(new Case(model, count, delegates.optString(d)));
                }
            }
        }
        if (cases.isEmpty()) {
            throw new Complaint(where + ": `threads` and `delegates` must each have at least one entry.");
        }
        int warmup = Reading.whole(document, "warmup", 0, 1000, where);
        int runs = Reading.whole(document, "runs", 1, 100_000, where);
        int rounds = Reading.whole(document, "rounds", 1, 1000, where);
        int seed = Reading.whole(document, "seed", 0, Integer.MAX_VALUE, where);
        String precision = document.isNull("precision") ? null : Reading.string(document, "precision", where);
        return new Job(cases, warmup, runs, rounds, seed, precision);
    }

    private static void checkKeys(JSONObject object, List<String> known, String where) throws Complaint {
        Iterator<?> keys = object.keys();
        while (keys.hasNext()) {
            Object key = keys.next();
            if (!known.contains(key)) {
                throw new Complaint(where + " has the unknown key `" + key + "`; known keys: " + known + ".");
            }
        }
    }
}
