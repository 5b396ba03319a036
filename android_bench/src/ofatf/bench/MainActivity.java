package ofatf.bench;

import android.app.Activity;
import android.content.ClipData;
import android.content.Intent;
import android.net.Uri;
import android.os.Bundle;
import android.view.View;
import android.view.WindowManager.LayoutParams;
import android.widget.ArrayAdapter;
import android.widget.Button;
import android.widget.LinearLayout;
import android.widget.ScrollView;
import android.widget.Spinner;
import android.widget.TextView;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import ofatf.core.Complaint;
import ofatf.core.Export;
import ofatf.core.Reading;
import ofatf.core.Run;
import ofatf.core.Words;

/**
 * The app: what it was given, what it does, what it found. The work itself is in {@link Worker}.
 *
 * <p>{@code am start -n ofatf.bench/.MainActivity -a ofatf.bench.RUN --es job FOLDER --es name NAME} runs the job in a
 * folder; progress and results are in {@code runs/NAME} of the app's external files.
 */
public final class MainActivity extends Activity {
    static final String RUN = "ofatf.bench.RUN";
    private static final int FOLDER = 1;
    private static final int PICTURE = 2;
    private static final int PICTURES = 3;
    private static final int MOST_PICTURE = 1 << 26;
    private static volatile boolean shown;
    private static volatile int timesLeft;

    private Worker worker;
    private Button start;
    private Button cancel;
    private Button share;
    private Spinner choice;
    private TextView status;
    private TextView said;
    private TimesView times;
    private List<String> shownNames = new ArrayList<>();

    /** Whether this app is the one that is seen, to which Android gives cores and clocks that others do not get. */
    static boolean isInFront() {
        return shown;
    }

    /** How often it was not any more; that is noticed although the user is back. */
    static int timesLeft() {
        return timesLeft;
    }

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        getWindow().addFlags(
            LayoutParams.FLAG_KEEP_SCREEN_ON
                | LayoutParams.FLAG_TURN_SCREEN_ON
                | LayoutParams.FLAG_SHOW_WHEN_LOCKED
                | LayoutParams.FLAG_DISMISS_KEYGUARD
        );
        worker = Worker.of(this);
        build();
        if (state == null) { // not when Android makes it anew
            take(getIntent());
        }
    }

    @Override
    protected void onNewIntent(Intent intent) {
        super.onNewIntent(intent);
        take(intent);
    }

    @Override
    protected void onStart() {
        super.onStart();
        worker.watch(new Runnable() {
            @Override
            public void run() {
                show();
            }
        });
    }

    @Override
    protected void onResume() {
        super.onResume();
        shown = true;
    }

    @Override
    protected void onPause() {
        shown = false;
        timesLeft++; // only the main thread does this
        super.onPause();
    }

    @Override
    protected void onStop() {
        worker.watch(null);
        worker.choose(chosen());
        super.onStop();
    }

    @Override
    protected void onActivityResult(int what, int answer, Intent data) {
        super.onActivityResult(what, answer, data);
        Uri uri = data == null ? null : data.getData();
        if (answer != RESULT_OK || uri == null) {
            return;
        }
        if (what == FOLDER) {
            worker.add(TreeFolder.of(getContentResolver(), uri));
            return;
        }
        Export export = chosen();
        if (export == null) {
            worker.say("Choose a folder made by `ofa-tf export` first.");
        } else if (what == PICTURES) {
            worker.accuracy(export, TreeFolder.of(getContentResolver(), uri));
        } else if (what == PICTURE) {
            try (InputStream stream = getContentResolver().openInputStream(uri)) {
                worker.classify(export, Reading.bytes(stream, "The picture", MOST_PICTURE));
            } catch (Complaint complaint) {
                worker.say(complaint.getMessage());
            } catch (IOException | RuntimeException error) {
                worker.say("The picture cannot be read: " + error.getMessage() + ".");
            }
        }
    }

    private void take(Intent intent) {
        if (intent == null || !RUN.equals(intent.getAction())) {
            return;
        }
        String job = intent.getStringExtra("job");
        String name = intent.getStringExtra("name");
        if (job == null || name == null || !name.matches("[A-Za-z0-9-]{1,64}")) {
            worker.say("The computer asked for a run without saying which.");
            return;
        }
        worker.startJob(new File(job), new File(getExternalFilesDir(null), "runs/" + name));
    }

    private void build() {
        LinearLayout column = new LinearLayout(this);
        column.setOrientation(LinearLayout.VERTICAL);
        int margin = (int) (16 * getResources().getDisplayMetrics().density);
        column.setPadding(margin, margin, margin, margin);
        status = text(column);
        button(column, "Add a folder with exports", new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                ask(new Intent(Intent.ACTION_OPEN_DOCUMENT_TREE), FOLDER);
            }
        });
        start = button(column, "Measure", new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                worker.start();
            }
        });
        cancel = button(column, "Cancel", new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                worker.cancel();
            }
        });
        choice = new Spinner(this);
        column.addView(choice);
        button(column, "Classify a picture", new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                Intent intent = new Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE);
                ask(intent.setType("image/*"), PICTURE);
            }
        });
        button(column, "Accuracy on a folder of pictures", new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                ask(new Intent(Intent.ACTION_OPEN_DOCUMENT_TREE), PICTURES);
            }
        });
        share = button(column, "Share the results", new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                share();
            }
        });
        said = text(column);
        times = new TimesView(this, said.getCurrentTextColor());
        column.addView(times);
        ScrollView scroll = new ScrollView(this);
        scroll.setFitsSystemWindows(true);
        scroll.addView(column);
        setContentView(scroll);
    }

    private TextView text(LinearLayout column) {
        TextView view = new TextView(this);
        view.setTextIsSelectable(true);
        column.addView(view);
        return view;
    }

    private Button button(LinearLayout column, String label, View.OnClickListener action) {
        Button button = new Button(this);
        button.setText(label);
        button.setOnClickListener(action);
        column.addView(button);
        return button;
    }

    private void ask(Intent intent, int what) {
        try {
            startActivityForResult(intent, what);
        } catch (RuntimeException error) {
            worker.say("This phone has no app to choose files with.");
        }
    }

    private void share() {
        Intent send = new Intent(Intent.ACTION_SEND).setType("application/json");
        send.putExtra(Intent.EXTRA_STREAM, ResultsProvider.RESULTS);
        send.setClipData(ClipData.newRawUri("results.json", ResultsProvider.RESULTS));
        send.addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION);
        startActivity(Intent.createChooser(send, "Share the results"));
    }

    private Export chosen() {
        List<Export> exports = worker.exports();
        int position = Math.max(0, choice.getSelectedItemPosition());
        return position < exports.size() ? exports.get(position) : null;
    }

    private void show() {
        Run run = worker.run();
        List<Export> exports = worker.exports();
        List<String> names = new ArrayList<>();
        for (Export export : exports) {
            names.add(export.name);
        }
        if (!names.equals(shownNames)) { // setting it anew would lose what was chosen
            shownNames = names;
            choice.setAdapter(new ArrayAdapter<>(this, android.R.layout.simple_spinner_dropdown_item, names));
            choice.setSelection(Math.max(0, exports.indexOf(worker.chosen())));
        }
        boolean busy = worker.isBusy();
        String what = run == null
            ? "Add a folder made by `ofa-tf export` or `ofa-tf lut job`, or one that holds exports."
            : Words.status(run);
        status.setText(what);
        said.setText(worker.said());
        start.setEnabled(!busy && !exports.isEmpty());
        cancel.setEnabled(busy);
        share.setEnabled(!busy && !worker.isForComputer() && ResultsProvider.file(this).exists());
        if (run != null && (run.state().isFinal() || run.done() == 0)) { // drawing it would disturb the measurement
            times.show(run.measured());
        }
    }
}
