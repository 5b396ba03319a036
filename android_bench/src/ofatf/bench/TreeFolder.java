package ofatf.bench;

import android.content.ContentResolver;
import android.database.Cursor;
import android.net.Uri;
import android.provider.DocumentsContract;
import android.provider.DocumentsContract.Document;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import ofatf.core.Folder;

/** A folder that the user chose with Android's own chooser, or one in it. */
final class TreeFolder implements Folder {
    private final ContentResolver resolver;
    private final Uri tree;
    private final String id;
    private final String name;
    private Map<String, String> files;
    private Map<String, String> folders;

    private TreeFolder(ContentResolver resolver, Uri tree, String id, String name) {
        this.resolver = resolver;
        this.tree = tree;
        this.id = id;
        this.name = name;
    }

    /** The folder that a chooser answered with. */
    static TreeFolder of(ContentResolver resolver, Uri tree) {
        String id = DocumentsContract.getTreeDocumentId(tree);
        String path = id.substring(id.indexOf(':') + 1);
        return new TreeFolder(resolver, tree, id, path.isEmpty() ? id : path.substring(path.lastIndexOf('/') + 1));
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public InputStream open(String file) throws IOException {
        list();
        String found = files.get(file);
        if (found == null) {
            throw new FileNotFoundException(file);
        }
        try {
            InputStream stream = resolver.openInputStream(DocumentsContract.buildDocumentUriUsingTree(tree, found));
            if (stream == null) {
                throw new FileNotFoundException(file);
            }
            return stream;
        } catch (RuntimeException error) { // of the app whose folder it is
            throw new IOException(error.getMessage(), error);
        }
    }

    @Override
    public List<String> files() throws IOException {
        list();
        return new ArrayList<>(files.keySet());
    }

    @Override
    public List<Folder> folders() throws IOException {
        list();
        List<Folder> found = new ArrayList<>();
        for (Map.Entry<String, String> one : folders.entrySet()) {
            found.add(new TreeFolder(resolver, tree, one.getValue(), one.getKey()));
        }
        return found;
    }

    private void list() throws IOException {
        if (files != null) {
            return;
        }
        Map<String, String> filesFound = new TreeMap<>();
        Map<String, String> foldersFound = new TreeMap<>();
        Uri children = DocumentsContract.buildChildDocumentsUriUsingTree(tree, id);
        String[] columns = {Document.COLUMN_DOCUMENT_ID, Document.COLUMN_DISPLAY_NAME, Document.COLUMN_MIME_TYPE};
        try (Cursor cursor = resolver.query(children, columns, null, null, null)) {
            if (cursor == null) {
                throw new IOException("the app whose folder it is gives no answer");
            }
            while (cursor.moveToNext()) {
                boolean isFolder = Document.MIME_TYPE_DIR.equals(cursor.getString(2));
                (isFolder ? foldersFound : filesFound).put(cursor.getString(1), cursor.getString(0));
            }
        } catch (RuntimeException error) {
            throw new IOException(error.getMessage(), error);
        }
        files = filesFound;
        folders = foldersFound;
    }
}
