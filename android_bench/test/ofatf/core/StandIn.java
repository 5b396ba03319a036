package ofatf.core;

import java.io.File;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.json.JSONException;
import org.json.JSONObject;

/** What stands for a phone where there is none: files "run" as long as they say, on a clock that only they move. */
final class StandIn implements Engine, Phone {
    long nanos = 1_000_000;
    long slept;
    int opened;
    int open;
    int runs;
    /** The size of the file of each inference, in order. */
    final List<Integer> sizes = new ArrayList<>();
    Conditions conditions = new Conditions(0, 1, true, 0);
    /** Called before each inference, with their number so far. */
    Runnable beforeRun;
    Runnable onOpen;
    Runnable onConditions;
    final Map<String, Complaint> refused = new HashMap<>();
    int[] shape = {1, 10};

    @Override
    public String version() {
        return "2.16.1";
    }

    /** Microseconds of an inference: a tenth of the file's size plus the height that it is resized to. */
    static long microseconds(byte[] model, int inSize) {
        return model.length / 10 + inSize;
    }

    @Override
    public Session open(final byte[] model, int threads, String delegate, final int inSize) throws Complaint {
        opened++;
        if (onOpen != null) {
            onOpen.run();
        }
        nanos += 2_000_000;
        Complaint refusal = refused.get(delegate);
        if (refusal != null) {
            throw refusal;
        }
        if (new String(model, java.nio.charset.StandardCharsets.ISO_8859_1).contains("LACKING")) {
            throw Interpreters.complaint("Didn't find op for builtin opcode 'GELU' version '2'.");
        }
        open++;
        return new Session() {
            @Override
            public int nOutputs() {
                return Outputs.count(shape);
            }

            @Override
            public long run() {
                sizes.add(model.length);
                if (beforeRun != null) {
                    beforeRun.run();
                }
                runs++;
                nanos += 1000 * microseconds(model, inSize) + 777; // which copying takes
                return 1000 * microseconds(model, inSize);
            }

            @Override
            public float[] scores(Picture square, Preprocessing preprocessing) {
                float[] scores = new float[nOutputs()];
                scores[(square.rgb[0] & 255) % scores.length] = 1; // the class is the red of the first pixel
                return scores;
            }

            @Override
            public void close() {
                open--;
            }
        };
    }

    @Override
    public JSONObject facts() {
        try {
            return new JSONObject().put("name", "acme-one").put("model", "Acme One").put("soc", "sm1").put("os", "Android 13");
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    public Conditions conditions() {
        if (onConditions != null) {
            onConditions.run();
        }
        return conditions;
    }

    @Override
    public long nanos() {
        return nanos;
    }

    @Override
    public void sleep(long ms) {
        slept += ms;
        nanos += 1_000_000 * ms;
    }

    /** JOB_FOLDER RESULTS_FOLDER: does what the app does with a job of the computer, with this class for LiteRT. */
    public static void main(String[] arguments) {
        Reporter reporter = new Reporter(new File(arguments[1]));
        StandIn phone = new StandIn();
        try {
            new Run(Job.read(new PlainFolder(new File(arguments[0]))), phone, phone, reporter).run();
        } catch (Complaint complaint) {
            reporter.failed(complaint.getMessage());
        }
    }
}
