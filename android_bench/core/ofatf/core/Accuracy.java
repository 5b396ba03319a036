package ofatf.core;

import java.io.IOException;
import java.text.Normalizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/** How many pictures of a folder a file puts into the right class: one folder for each class, named after its label. */
public final class Accuracy {
    private static final double Z = 1.96; // quantile of the normal distribution, for 95 %
    private static final int MOST_PICTURE = 1 << 26;
    private static final Set<String> SUFFIXES =
        new HashSet<>(Arrays.asList("jpg", "jpeg", "png", "bmp", "gif", "webp", "jfif", "jpe"));

    public int n;
    public int top1;
    public int top5;
    public int unreadable;
    /** What the first unreadable picture says; null without one. */
    public String firstComplaint;

    /** From a file's bytes to its picture, upright. */
    public interface Decoder {
        Picture decode(byte[] content, String name) throws Complaint;
    }

    /** Is told after each picture, and may end the measurement. */
    public interface Watcher {
        boolean goesOn(Accuracy soFar);
    }

    /**
     * Measures it.
     *
     * @throws Complaint a folder is of no class, or there is no picture at all
     */
    public static Accuracy measure(Export export, Session session, Folder folder, Decoder decoder, Watcher watcher)
        throws Complaint {
        export.checkLabels(session.nOutputs());
        Accuracy found = new Accuracy();
        try {
            List<Folder> classes = folder.folders();
            List<Integer> outputs = new ArrayList<>();
            for (Folder one : classes) {
                outputs.add(output(export, one.name()));
            }
            for (int i = 0; i < outputs.size(); i++) {
                for (String name : classes.get(i).files()) {
                    if (isPicture(name)) {
                        found.add(export, session, classes.get(i), name, outputs.get(i), decoder);
                        if (!watcher.goesOn(found)) {
                            return found;
                        }
                    }
                }
            }
        } catch (IOException error) {
            throw new Complaint(folder.name() + " cannot be read: " + error.getMessage() + ".");
        }
        if (found.n == 0) {
            String why = found.firstComplaint == null ? "it must hold CLASS/picture.jpg" : found.firstComplaint;
            throw new Complaint(folder.name() + " has no picture that can be read: " + why);
        }
        return found;
    }

    private void add(Export export, Session session, Folder folder, String name, int output, Decoder decoder)
        throws Complaint {
        Picture picture;
        try {
            picture = decoder.decode(Reading.bytes(folder, name, MOST_PICTURE), name);
        } catch (Complaint complaint) {
            unreadable++;
            firstComplaint = firstComplaint == null ? complaint.getMessage() : firstComplaint;
            return;
        }
        int rank = Ranking.rank(session.scores(export.preprocessing.square(picture), export.preprocessing), output);
        n++;
        top1 += rank < 1 ? 1 : 0;
        top5 += rank < 5 ? 1 : 0;
    }

    /** The lower end of the interval that the share of hits lies in with 95 % confidence (Wilson, JASA 22, 1927). */
    public static double low(int hits, int n) {
        return Math.max(0, middle(hits, n) - half(hits, n));
    }

    /** The upper end. */
    public static double high(int hits, int n) {
        return Math.min(1, middle(hits, n) + half(hits, n));
    }

    private static double middle(int hits, int n) {
        double spread = Z * Z / n;
        return ((double) hits / n + spread / 2) / (1 + spread);
    }

    private static double half(int hits, int n) {
        double share = (double) hits / n;
        double spread = Z * Z / n;
        return Z / (1 + spread) * Math.sqrt((share * (1 - share) + spread / 4) / n);
    }

    /** The output of the class that a folder is named after; an accent, "_" and case may be written differently. */
    static int output(Export export, String name) throws Complaint {
        for (int form = 0; form < 4; form++) {
            List<Integer> found = new ArrayList<>();
            for (int i = 0; i < export.labels.size(); i++) {
                if (written(export.labels.get(i), form).equals(written(name, form))) {
                    found.add(i);
                }
            }
            if (found.size() == 1) {
                return found.get(0);
            }
            if (!found.isEmpty()) {
                throw new Complaint("The folder " + name + " may be each of " + found.size() + " labels: rename it.");
            }
        }
        throw new Complaint("The folder " + name + " is none of the labels of " + export.name + ": rename or move it.");
    }

    private static String written(String name, int form) {
        String text = form >= 1 ? Normalizer.normalize(name, Normalizer.Form.NFC) : name;
        text = form >= 2 ? text.replace('_', ' ') : text;
        return form >= 3 ? text.toLowerCase(Locale.ROOT) : text;
    }

    private static boolean isPicture(String name) {
        int dot = name.lastIndexOf('.');
        return dot > 0 && SUFFIXES.contains(name.substring(dot + 1).toLowerCase(Locale.ROOT));
    }
}
