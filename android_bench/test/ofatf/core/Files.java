package ofatf.core;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.json.JSONException;
import org.json.JSONObject;

/** Exports and jobs for tests. */
final class Files {
    private Files() {}

    static byte[] model(String text) {
        return ("\0\0\0\0TFL3" + text).getBytes(StandardCharsets.UTF_8);
    }

    static void write(Path path, byte[] content) throws IOException {
        java.nio.file.Files.createDirectories(path.getParent());
        java.nio.file.Files.write(path, content);
    }

    static void write(Path path, String text) throws IOException {
        write(path, text.getBytes(StandardCharsets.UTF_8));
    }

    static JSONObject manifest(byte[] model) throws JSONException {
        return new JSONObject(
            "{'schema': 1, 'precision': 'int8', 'io': 'uint8', 'arch': {'resolution': 32}, 'n_macs': 1000, 'crop': 0.875,"
                + "'device': {'name': 'host'}, 'predicted_ms': 1.5, 'table_source': 'measured', 'versions': {},"
                + "'latency_statistic': 'p10_ms', 'preprocessing': {'mean': [128, 128, 128], 'std': [128, 128, 128]}}"
        ).put("sha256", Export.sha256(model)).put("size_bytes", model.length);
    }

    static Path export(Path folder, byte[] model, JSONObject manifest, String labels) throws IOException {
        write(folder.resolve("model.tflite"), model);
        write(folder.resolve("manifest.json"), manifest.toString());
        write(folder.resolve("labels.txt"), labels);
        return folder;
    }

    static Path export(Path folder) throws Exception {
        byte[] model = model("weights");
        return export(folder, model, manifest(model), "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    }

    static Folder folder(Path path) {
        return new PlainFolder(path.toFile());
    }

    static Job.Model plain(String name, int size, String key) {
        return new Job.Model(name, new byte[size], 0, key, null);
    }
}
