package ofatf.bench;

import android.content.Context;
import android.os.Handler;
import android.os.Looper;
import java.io.File;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import ofatf.core.Accuracy;
import ofatf.core.Chosen;
import ofatf.core.Complaint;
import ofatf.core.Export;
import ofatf.core.Folder;
import ofatf.core.Job;
import ofatf.core.Picture;
import ofatf.core.PlainFolder;
import ofatf.core.Reporter;
import ofatf.core.Run;
import ofatf.core.Session;
import ofatf.core.Words;

/** What the app does, one thing after another, in a thread that outlives the activity, which Android may make anew. */
final class Worker {
    private static Worker only;

    private final Context context;
    private final LiteRt engine = new LiteRt();
    private final AndroidPhone phone;
    private final Bitmaps bitmaps = new Bitmaps();
    private final ExecutorService thread = Executors.newSingleThreadExecutor();
    private final Handler main = new Handler(Looper.getMainLooper());
    private final List<Export> exports = new ArrayList<>();
    private volatile Runnable watcher;
    private volatile Run run;
    private volatile boolean forComputer;
    private volatile String said = "";
    private volatile Export chosen;
    private volatile boolean busy;
    private volatile boolean stopped;

    private Worker(Context context) {
        this.context = context;
        phone = new AndroidPhone(context);
        File pushed = new File(context.getExternalFilesDir(null), "exports");
        if (pushed.isDirectory() || pushed.mkdirs()) {
            String[] names = pushed.list();
            if (names != null && names.length > 0) {
                add(new PlainFolder(pushed));
            }
        }
    }

    /** The one of this process. */
    static synchronized Worker of(Context context) {
        if (only == null) {
            only = new Worker(context.getApplicationContext());
        }
        return only;
    }

    /** Sets what is called in the main thread when something changed; null for nobody. */
    void watch(Runnable next) {
        watcher = next;
        changed();
    }

    /** The last run; null before the first. */
    Run run() {
        return run;
    }

    /** Whether the last run was a computer's. */
    boolean isForComputer() {
        return forComputer;
    }

    /** What there is to tell, apart from the run. */
    String said() {
        return said;
    }

    boolean isBusy() {
        return busy;
    }

    List<Export> exports() {
        synchronized (exports) {
            return new ArrayList<>(exports);
        }
    }

    /** Remembers the export that was chosen on the screen, for the activity that Android may make anew. */
    void choose(Export export) {
        chosen = export;
    }

    Export chosen() {
        return chosen;
    }

    /** Looks for exports in a folder, and for a job, which is run at once. */
    void add(final Folder folder) {
        later(new Work() {
            @Override
            public void go() throws Complaint {
                Chosen chosen = Chosen.in(folder);
                if (chosen.job != null) {
                    measure(chosen.job, null);
                    return;
                }
                synchronized (exports) {
                    for (Export export : chosen.exports) {
                        for (int i = exports.size() - 1; i >= 0; i--) {
                            if (exports.get(i).name.equals(export.name)) {
                                exports.remove(i);
                            }
                        }
                        exports.add(export);
                    }
                }
                said = chosen.exports.size() + " read from " + folder.name() + ".\n" + Words.lines(chosen.complaints);
            }
        });
    }

    /** Measures all exports with every setting. */
    void start() {
        later(new Work() {
            @Override
            public void go() throws Complaint {
                if (exports().isEmpty()) {
                    throw new Complaint("Choose a folder made by `ofa-tf export` first.");
                }
                measure(Job.ofExports(exports(), System.nanoTime()), null);
            }
        });
    }

    /** Runs a job of the computer, which follows it in a folder. */
    void startJob(final File job, File answers) {
        final Reporter reporter = new Reporter(answers);
        later(new Work() {
            @Override
            public void go() throws Complaint {
                try {
                    measure(Job.read(new PlainFolder(job)), reporter);
                } catch (Complaint complaint) {
                    throw failed(reporter, complaint.getMessage());
                } catch (RuntimeException | OutOfMemoryError error) {
                    throw failed(reporter, "The app failed: " + error + ".");
                }
            }
        });
    }

    /** Tells the computer why its job ended; returns what the screen says. */
    private static Complaint failed(Reporter reporter, String why) {
        reporter.failed(why);
        return new Complaint((why + "\n" + reporter.problem()).trim());
    }

    /** Ends what is being done; what was measured is kept. */
    void cancel() {
        stopped = true;
        Run current = run;
        if (current != null) {
            current.cancel();
        }
    }

    /** Puts a picture into a class. */
    void classify(final Export export, final byte[] content) {
        later(new Work() {
            @Override
            public void go() throws Complaint {
                try (Session session = engine.open(export.model, 1, "none", 0)) {
                    export.checkLabels(session.nOutputs());
                    Picture picture = bitmaps.decode(content, "The picture");
                    float[] scores = session.scores(export.preprocessing.square(picture), export.preprocessing);
                    said = export.name + " sees:\n" + Words.topFive(export, scores);
                }
            }
        });
    }

    /** Measures the accuracy on a folder with a folder of pictures for each class. */
    void accuracy(final Export export, final Folder pictures) {
        later(new Work() {
            @Override
            public void go() throws Complaint {
                try (Session session = engine.open(export.model, 1, "none", 0)) {
                    Accuracy found = Accuracy.measure(export, session, pictures, bitmaps, new Accuracy.Watcher() {
                        @Override
                        public boolean goesOn(Accuracy soFar) {
                            said = export.name + ": " + soFar.top1 + " of " + soFar.n + " right so far";
                            changed();
                            return !stopped;
                        }
                    });
                    String end = stopped ? " Cancelled: the other pictures were not seen." : "";
                    said = export.name + " on " + pictures.name() + ": " + Words.accuracy(found) + end;
                }
            }
        });
    }

    /** Tells something from outside. */
    void say(String sentence) {
        said = sentence;
        changed();
    }

    /** The results of a computer's job are in its folder; those that are shared are the user's. */
    private void measure(Job job, final Reporter computer) {
        final Reporter reporter = computer == null ? new Reporter(context.getFilesDir()) : computer;
        forComputer = computer != null;
        run = new Run(job, engine, phone, new Run.Listener() {
            @Override
            public void changed(Run one) {
                if (computer != null || one.state().isFinal()) {
                    reporter.changed(one);
                }
                Worker.this.changed();
            }
        });
        if (stopped) {
            run.cancel();
        }
        run.run();
        said = reporter.problem();
    }

    private interface Work {
        void go() throws Complaint;
    }

    private void later(final Work work) {
        thread.execute(new Runnable() {
            @Override
            public void run() {
                stopped = false;
                busy = true;
                changed();
                try {
                    work.go();
                } catch (Complaint complaint) {
                    said = complaint.getMessage();
                } catch (RuntimeException | OutOfMemoryError error) {
                    said = "The app failed: " + error;
                } finally {
                    busy = false;
                    changed();
                }
            }
        });
    }

    private void changed() {
        main.post(new Runnable() {
            @Override
            public void run() {
                Runnable now = watcher;
                if (now != null) {
                    now.run();
                }
            }
        });
    }
}
