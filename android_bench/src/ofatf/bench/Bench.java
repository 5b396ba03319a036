package ofatf.bench;

import android.app.Activity;
import android.app.Instrumentation;
import android.content.Intent;
import android.os.Bundle;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Runs the packed benchmark_model once, as a part of an app in front, and prints what it prints.
 *
 * <p>{@code am instrument -w -e cores MASK -e flags FLAGS ofatf.bench/.Bench}: MASK in hexadecimal as {@code taskset}
 * takes it, FLAGS those of benchmark_model, one a line. What goes wrong is a line that begins with "error: ".
 */
public final class Bench extends Instrumentation {
    private Bundle arguments;

    @Override
    public void onCreate(Bundle arguments) {
        super.onCreate(arguments);
        this.arguments = arguments;
        start();
    }

    @Override
    public void onStart() {
        String output;
        try {
            output = measure();
        } catch (Exception error) { // which would end the process without a word of it in the answer
            output = "error: " + error + "\n";
        }
        Bundle result = new Bundle();
        result.putString(REPORT_KEY_STREAMRESULT, output);
        finish(Activity.RESULT_OK, result);
    }

    private String measure() throws Exception {
        String program = getTargetContext().getApplicationInfo().nativeLibraryDir + "/libbenchmark_model.so";
        List<String> command = new ArrayList<>(Arrays.asList("taskset", arguments.getString("cores"), program));
        command.addAll(Arrays.asList(arguments.getString("flags").split("\n")));
        Intent front = new Intent(getTargetContext(), Front.class);
        getTargetContext().startActivity(front.addFlags(Intent.FLAG_ACTIVITY_NEW_TASK));
        if (!Front.isShown()) {
            return "error: the app did not come to the front; unlock the phone\n";
        }
        String output = Program.run(command);
        return Front.wasLeft() ? "error: the app was left during the measurement\n" : output;
    }
}
