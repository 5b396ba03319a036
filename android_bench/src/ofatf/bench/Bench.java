package ofatf.bench;

import android.app.Activity;
import android.app.Instrumentation;
import android.content.Intent;
import android.os.Bundle;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Runs the packed benchmark_model once, as a part of an app in front, and prints what it prints.
 *
 * <p>{@code am instrument -w -e cores MASK -e flags FLAGS ofatf.bench/.Bench}: MASK in hexadecimal as {@code taskset}
 * takes it, FLAGS those of benchmark_model, one a line.
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
        Intent front = new Intent(getTargetContext(), Front.class);
        Activity activity = startActivitySync(front.addFlags(Intent.FLAG_ACTIVITY_NEW_TASK));
        Bundle result = new Bundle();
        result.putString(REPORT_KEY_STREAMRESULT, output());
        activity.finish();
        finish(Activity.RESULT_OK, result);
    }

    private String output() {
        String program = getTargetContext().getApplicationInfo().nativeLibraryDir + "/libbenchmark_model.so";
        List<String> command = new ArrayList<>(Arrays.asList("taskset", arguments.getString("cores"), program));
        command.addAll(Arrays.asList(arguments.getString("flags").split("\n")));
        try {
            return Program.run(command);
        } catch (IOException | InterruptedException error) {
            return error + "\n";
        }
    }
}
