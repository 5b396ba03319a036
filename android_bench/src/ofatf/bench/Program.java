package ofatf.bench;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.List;

/** A program that is run to its end. */
final class Program {
    private static final int MOST_BYTES = 100_000; // an answer of Android may have a megabyte

    private Program() {}

    /** Standard output and error of a command, the end of it if that is long; before it the exit status unless it is 0. */
    static String run(List<String> command) throws IOException, InterruptedException {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        process.getOutputStream().close();
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        byte[] part = new byte[8192];
        try (InputStream stream = process.getInputStream()) {
            for (int n = stream.read(part); n >= 0; n = stream.read(part)) {
                said.write(part, 0, n);
            }
        }
        int first = Math.max(0, said.size() - MOST_BYTES);
        String output = new String(said.toByteArray(), first, said.size() - first, "UTF-8");
        int status = process.waitFor();
        return status == 0 ? output : "exit status " + status + "\n" + output;
    }

    /** Runs the arguments, where there is no Android. */
    public static void main(String[] command) throws IOException, InterruptedException {
        System.out.print(run(java.util.Arrays.asList(command)));
    }
}
