package ofatf.core;

import java.io.File;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** A folder of the file system. */
public final class PlainFolder implements Folder {
    private final File folder;

    public PlainFolder(File folder) {
        this.folder = folder;
    }

    @Override
    public String name() {
        return folder.getName();
    }

    @Override
    public InputStream open(String name) throws FileNotFoundException {
        return new FileInputStream(new File(folder, name));
    }

    @Override
    public List<String> files() throws IOException {
        List<String> names = new ArrayList<>();
        for (File file : children()) {
            if (file.isFile()) {
                names.add(file.getName());
            }
        }
        return names;
    }

    @Override
    public List<Folder> folders() throws IOException {
        List<Folder> folders = new ArrayList<>();
        for (File file : children()) {
            if (file.isDirectory()) {
                folders.add(new PlainFolder(file));
            }
        }
        return folders;
    }

    private File[] children() throws IOException {
        File[] children = folder.listFiles();
        if (children == null) {
            throw new IOException(folder + " cannot be listed");
        }
        Arrays.sort(children);
        return children;
    }
}
