package ofatf.core;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** What a folder that somebody chose holds: an export, a job of the computer, or folders with exports. */
public final class Chosen {
    /** The exports that can be read. */
    public final List<Export> exports;
    /** What is wrong with the others, a sentence each. */
    public final List<String> complaints;
    /** The job, if the folder is one; null otherwise. */
    public final Job job;

    private Chosen(List<Export> exports, List<String> complaints, Job job) {
        this.exports = Collections.unmodifiableList(exports);
        this.complaints = Collections.unmodifiableList(complaints);
        this.job = job;
    }

    /**
     * Looks into a folder.
     *
     * @throws Complaint it cannot be listed, or holds nothing of ofa-tf
     */
    public static Chosen in(Folder folder) throws Complaint {
        List<Export> exports = new ArrayList<>();
        List<String> complaints = new ArrayList<>();
        try {
            List<String> files = folder.files();
            if (files.contains(Job.NAME)) {
                return new Chosen(exports, complaints, Job.read(folder));
            }
            List<Folder> candidates = new ArrayList<>();
            if (Export.isOne(files)) {
                candidates.add(folder);
            } else {
                for (Folder inner : folder.folders()) {
                    if (Export.isOne(inner.files())) {
                        candidates.add(inner);
                    }
                }
            }
            for (Folder candidate : candidates) {
                try {
                    exports.add(Export.read(candidate));
                } catch (Complaint complaint) {
                    complaints.add(complaint.getMessage());
                }
            }
            if (candidates.isEmpty()) {
                throw new Complaint(
                    folder.name() + " holds neither a manifest.json nor a job.json: choose a folder made by `ofa-tf export` or"
                        + " `ofa-tf lut job`, or one that holds exports."
                );
            }
        } catch (IOException error) {
            throw new Complaint(folder.name() + " cannot be listed: " + error.getMessage() + ".");
        }
        return new Chosen(exports, complaints, null);
    }
}
