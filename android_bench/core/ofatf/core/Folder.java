package ofatf.core;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.util.List;

/** A folder, wherever it is: files of the app, or one that another app lets us read. */
public interface Folder {
    String name();

    /** Opens a file in it. */
    InputStream open(String name) throws FileNotFoundException, IOException;

    /** The names of the files in it, sorted. */
    List<String> files() throws IOException;

    /** The folders in it, sorted by name. */
    List<Folder> folders() throws IOException;
}
