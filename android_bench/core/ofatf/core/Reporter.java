package ofatf.core;

import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import org.json.JSONObject;

/**
 * Keeps two files about a run in a folder, for the computer that started it: {@code status.json} at every change, and
 * {@code results.json} once at the end. Each appears whole or not at all; results are there before the status says so.
 */
public final class Reporter implements Run.Listener {
    private final File folder;
    private volatile String problem;

    public Reporter(File folder) {
        this.folder = folder;
    }

    /** Why the last file could not be written; null if it could. */
    public String problem() {
        return problem;
    }

    @Override
    public void changed(Run run) {
        try {
            if (run.state().isFinal()) {
                write("results.json", Results.of(run).toString());
            }
            write("status.json", Results.status(run).toString());
            problem = null;
        } catch (IOException error) {
            problem = folder.getName() + " cannot be written: " + error.getMessage() + ".";
        }
    }

    /** For what ends before there is a run, such as a job that cannot be read. */
    public void failed(String why) {
        try {
            JSONObject status = new JSONObject();
            status.put("schema", 1);
            status.put("state", "failed");
            status.put("done", 0);
            status.put("total", 0);
            status.put("message", why);
            write("status.json", status.toString());
        } catch (IOException | org.json.JSONException error) {
            problem = folder.getName() + " cannot be written: " + error.getMessage() + ".";
        }
    }

    private void write(String name, String text) throws IOException {
        if (!folder.isDirectory() && !folder.mkdirs()) {
            throw new IOException("the folder cannot be made");
        }
        File temporary = new File(folder, name + ".tmp");
        try (FileOutputStream stream = new FileOutputStream(temporary)) {
            stream.write((text + "\n").getBytes("UTF-8"));
            stream.getFD().sync();
        }
        if (!temporary.renameTo(new File(folder, name))) {
            throw new IOException(name + " cannot be replaced");
        }
    }
}
