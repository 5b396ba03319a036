package ofatf.core;

import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import org.json.JSONException;
import org.json.JSONObject;

/**
 * Keeps two files about a run in a folder, for the computer that started it: {@code status.json} at every change, and
 * {@code results.json} once at the end. Each appears whole or not at all; results are there before the status says so.
 */
public final class Reporter implements Run.Listener {
    private final File folder;
    private volatile String problem = "";

    public Reporter(File folder) {
        this.folder = folder;
    }

    /** Why what changed last could not be written, in sentences; empty if it could. */
    public String problem() {
        return problem;
    }

    /** Results that cannot be written are a failure, whatever the run came to. */
    @Override
    public void changed(Run run) {
        String lost = run.state().isFinal() ? write("results.json", Results.of(run)) : "";
        JSONObject status = Results.status(run);
        try {
            if (!lost.isEmpty()) {
                status.put("state", "failed").put("message", (run.message() + " " + lost).trim());
            }
            problem = (lost + " " + write("status.json", status)).trim();
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    /** For what ends before there is a run, such as a job that cannot be read. */
    public void failed(String why) {
        try {
            JSONObject status = new JSONObject().put("schema", 1).put("state", "failed").put("done", 0).put("total", 0);
            problem = write("status.json", status.put("message", why));
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    /** Writes a file; returns a sentence about why it could not, or nothing. */
    private String write(String name, JSONObject document) {
        File temporary = new File(folder, name + ".tmp");
        try {
            if (!folder.isDirectory() && !folder.mkdirs()) {
                throw new IOException("there is no folder " + folder + ", and none can be made");
            }
            try (FileOutputStream stream = new FileOutputStream(temporary)) {
                stream.write((document + "\n").getBytes("UTF-8"));
                stream.getFD().sync();
            }
            if (!temporary.renameTo(new File(folder, name))) {
                throw new IOException("it cannot be replaced");
            }
            return "";
        } catch (IOException error) {
            return name + " could not be saved: " + error.getMessage() + ".";
        }
    }
}
