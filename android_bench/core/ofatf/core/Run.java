package ofatf.core;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;

/**
 * One run of a job, from its files to its timings. It knows nothing of Android: a thread calls {@link #run}, another may
 * {@link #cancel} at any moment, and the screen reads the rest.
 *
 * <p>A turn is a case's warm-up and timed runs. In every round each case has one turn, in shuffled order. A turn during
 * or around which the phone was not fit is rejected and repeated after a pause.
 */
public final class Run implements Runnable {
    static final long COOLING_MS = 30_000;
    static final long SLICE_MS = 100;
    static final int COOLINGS = 10;

    /** Where a run is. The last three are final. */
    public enum State {
        IDLE, LOADING, WARM_UP, ROUNDS, FINISHED, CANCELLED, FAILED;

        public boolean isFinal() {
            return compareTo(ROUNDS) > 0;
        }
    }

    /** Is told whenever something changed, by the thread that runs. */
    public interface Listener {
        void changed(Run run);
    }

    /** What is known about a case. */
    public static final class Measured {
        public final Job.Case what;
        private final List<Double> runsMs = new ArrayList<>();
        private double loadMs = Double.NaN;
        private String error;

        Measured(Job.Case what) {
            this.what = what;
        }

        /** Milliseconds of each run that counts. */
        public synchronized double[] runsMs() {
            double[] values = new double[runsMs.size()];
            for (int i = 0; i < values.length; i++) {
                values[i] = runsMs.get(i);
            }
            return values;
        }

        /** Milliseconds from the bytes to a session that is ready; NaN if it never was. */
        public synchronized double loadMs() {
            return loadMs;
        }

        /** Why it cannot be measured; null if it can. */
        public synchronized String error() {
            return error;
        }
    }

    public final Job job;
    private final Engine engine;
    private final Phone phone;
    private final Listener listener;
    private final List<Measured> measured = new ArrayList<>();
    private volatile State state = State.IDLE;
    private volatile boolean cancelled;
    private volatile int done;
    private volatile int rejected;
    private volatile String message = "";

    public Run(Job job, Engine engine, Phone phone, Listener listener) {
        this.job = job;
        this.engine = engine;
        this.phone = phone;
        this.listener = listener;
        for (Job.Case what : job.cases) {
            measured.add(new Measured(what));
        }
    }

    public State state() {
        return state;
    }

    /** Turns that are done, of {@link #total}. */
    public int done() {
        return done;
    }

    public int total() {
        return job.rounds * measured.size();
    }

    /** Turns that did not count because the phone was not fit. */
    public int rejected() {
        return rejected;
    }

    /** Why it failed or waits; empty otherwise. */
    public String message() {
        return message;
    }

    public List<Measured> measured() {
        return Collections.unmodifiableList(measured);
    }

    public String engineVersion() {
        return engine.version();
    }

    public Phone phone() {
        return phone;
    }

    /** Ends the run before its next inference; one that has ended stays as it is. What was measured is kept. */
    public void cancel() {
        synchronized (this) {
            cancelled = true;
            if (state != State.IDLE) {
                return; // the thread that runs sees it
            }
            state = State.CANCELLED;
        }
        listener.changed(this);
    }

    @Override
    public void run() {
        synchronized (this) {
            if (state != State.IDLE) {
                return;
            }
            state = State.LOADING;
        }
        listener.changed(this);
        try {
            load();
            warmUp();
            rounds();
            end(State.FINISHED, "");
        } catch (Cancellation | InterruptedException stopped) {
            end(State.CANCELLED, "");
        } catch (Complaint complaint) {
            end(State.FAILED, complaint.getMessage());
        } catch (RuntimeException | OutOfMemoryError error) {
            end(State.FAILED, "The app failed: " + error + ".");
        }
    }

    private void load() throws Complaint, Cancellation {
        for (Measured one : measured) {
            check();
            long start = phone.nanos();
            try (Session session = open(one)) {
                double ms = (phone.nanos() - start) / 1e6;
                if (one.what.model.export != null) {
                    one.what.model.export.checkLabels(session.nOutputs());
                }
                synchronized (one) {
                    one.loadMs = ms;
                }
            } catch (Complaint | RuntimeException | OutOfMemoryError error) {
                drop(one, error);
            }
            listener.changed(this);
        }
        requireSome();
    }

    private void warmUp() throws Complaint, Cancellation {
        enter(State.WARM_UP);
        for (Measured one : measured) {
            if (one.error() == null) {
                try (Session session = open(one)) {
                    for (int i = 0; i < job.warmup; i++) {
                        check();
                        session.run();
                    }
                } catch (Complaint | RuntimeException | OutOfMemoryError error) {
                    drop(one, error);
                }
            }
            check();
        }
        requireSome();
    }

    private void rounds() throws Complaint, Cancellation, InterruptedException {
        enter(State.ROUNDS);
        Random random = new Random(job.seed);
        for (int round = 0; round < job.rounds; round++) {
            List<Measured> order = new ArrayList<>(measured);
            Collections.shuffle(order, random);
            for (Measured one : order) {
                if (one.error() == null) {
                    turn(one);
                }
                done++;
                listener.changed(this);
            }
        }
        requireSome();
    }

    private void turn(Measured one) throws Complaint, Cancellation, InterruptedException {
        String objection = null;
        for (int attempt = 0; attempt <= COOLINGS; attempt++) {
            if (attempt > 0) {
                rejected++;
                cool(objection);
            }
            check();
            Phone.Conditions before = phone.conditions();
            objection = before.objection();
            if (objection != null) {
                continue;
            }
            List<Double> runs = new ArrayList<>();
            try (Session session = open(one)) {
                for (int i = 0; i < job.warmup; i++) {
                    check();
                    session.run();
                }
                for (int i = 0; i < job.runs; i++) {
                    check();
                    runs.add(session.run() / 1e6);
                }
            } catch (Complaint | RuntimeException | OutOfMemoryError error) {
                drop(one, error);
                return;
            }
            objection = phone.conditions().objectionSince(before);
            if (objection == null) {
                synchronized (one) {
                    one.runsMs.addAll(runs);
                }
                return;
            }
        }
        throw new Complaint(
            "Measuring was given up after " + COOLINGS + " pauses because " + objection
                + ": let the phone cool down, unplug its charger, turn off battery saving, and leave this app in front."
        );
    }

    private void cool(String objection) throws Cancellation, InterruptedException {
        message = "Waiting because " + objection + ".";
        listener.changed(this);
        for (long waited = 0; waited < COOLING_MS; waited += SLICE_MS) {
            check();
            phone.sleep(SLICE_MS);
        }
        message = "";
        listener.changed(this);
    }

    private Session open(Measured one) throws Complaint {
        return engine.open(one.what.model.content, one.what.threads, one.what.delegate, one.what.model.inSize);
    }

    /** Leaves a file with a setting out; the others go on. */
    private void drop(Measured one, Throwable why) {
        synchronized (one) {
            one.error = why instanceof Complaint ? why.getMessage() : "The app failed: " + why + ".";
            one.runsMs.clear();
        }
    }

    private void requireSome() throws Complaint {
        for (Measured one : measured) {
            if (one.error() == null) {
                return;
            }
        }
        throw new Complaint("No file can be measured; the first says: " + measured.get(0).error());
    }

    private void check() throws Cancellation {
        if (cancelled) {
            throw new Cancellation();
        }
    }

    private void enter(State next) throws Cancellation {
        check();
        state = next;
        listener.changed(this);
    }

    private void end(State last, String why) {
        message = why;
        state = last;
        listener.changed(this);
    }

    private static final class Cancellation extends Exception {
        private static final long serialVersionUID = 1;
    }
}
