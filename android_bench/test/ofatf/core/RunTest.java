package ofatf.core;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import ofatf.core.Run.State;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class RunTest {
    private final StandIn phone = new StandIn();
    private final List<State> seen = new ArrayList<>();

    private Run run(int rounds, Job.Case... cases) {
        return new Run(new Job(Arrays.asList(cases), 2, 4, rounds, 1, null), phone, phone, this::note);
    }

    private void note(Run run) {
        if (seen.isEmpty() || seen.get(seen.size() - 1) != run.state()) {
            seen.add(run.state());
        }
    }

    private static Job.Case small() {
        return new Job.Case(Files.plain("small", 100, null), 1, "none");
    }

    private static Job.Case large() {
        return new Job.Case(Files.plain("large", 1000, null), 1, "nnapi");
    }

    private static double[] same(int n, double value) {
        double[] values = new double[n];
        Arrays.fill(values, value);
        return values;
    }

    @Test
    void everyCaseIsTimedInEveryRound() {
        Run run = run(3, small(), large());
        run.run();
        assertEquals(Arrays.asList(State.LOADING, State.WARM_UP, State.ROUNDS, State.FINISHED), seen);
        assertArrayEquals(same(12, 0.01), run.measured().get(0).runsMs());
        assertArrayEquals(same(12, 0.1), run.measured().get(1).runsMs());
        assertEquals(2, run.measured().get(0).loadMs());
        assertEquals(6, run.done());
        assertEquals(6, run.total());
        assertEquals(2 * (2 + 3 * (2 + 4)), phone.runs, "warm-ups are not timed");
        assertEquals(0, phone.open);
    }

    @Test
    void roundsAreShuffled() {
        List<List<Integer>> rounds = turns(1);
        for (List<Integer> round : rounds) {
            assertEquals(new HashSet<>(Arrays.asList(10, 20, 30, 40)), new HashSet<>(round), "each has one turn");
        }
        assertTrue(new HashSet<>(rounds).size() > 3, "each round has an order of its own: " + rounds);
        assertEquals(rounds, turns(1), "the seed says which");
        assertNotEquals(rounds, turns(2));
    }

    /** The files, by their sizes, in the order of their turns, in each of eight rounds. */
    private static List<List<Integer>> turns(long seed) {
        List<Job.Case> cases = new ArrayList<>();
        for (int size : new int[] {10, 20, 30, 40}) {
            cases.add(new Job.Case(Files.plain("file", size, null), 1, "none"));
        }
        StandIn one = new StandIn();
        new Run(new Job(cases, 0, 1, 8, seed, null), one, one, ignored -> {}).run();
        assertEquals(32, one.sizes.size());
        List<List<Integer>> rounds = new ArrayList<>();
        for (int first = 0; first < 32; first += 4) {
            rounds.add(new ArrayList<>(one.sizes.subList(first, first + 4)));
        }
        return rounds;
    }

    @ParameterizedTest
    @EnumSource(State.class)
    void aRunIsCancelledInEveryState(State where) {
        Run[] run = new Run[1];
        boolean[] told = {false};
        if (where == State.FAILED) {
            phone.refused.put("none", new Complaint("No."));
        }
        Run.Listener listener = one -> {
            if (one.state() == where && where != State.IDLE && !told[0]) {
                told[0] = true;
                one.cancel();
            }
        };
        run[0] = new Run(new Job(Arrays.asList(small()), 2, 4, 2, 1, null), phone, phone, listener);
        if (where == State.IDLE) {
            run[0].cancel();
            assertEquals(State.CANCELLED, run[0].state(), "at once");
        }
        run[0].run();
        State expected = where == State.FINISHED || where == State.FAILED ? where : State.CANCELLED;
        if (where == State.CANCELLED) { // cancelled twice
            run[0] = new Run(run[0].job, phone, phone, listener);
            run[0].cancel();
            run[0].cancel();
        }
        assertEquals(expected, run[0].state());
        assertEquals(0, phone.open, "nothing stays open");
    }

    @Test
    void whatWasMeasuredBeforeItWasCancelledIsKept() {
        Run run = run(3, small());
        phone.beforeRun = () -> {
            if (phone.runs == 2 + 6 + 3) {
                run.cancel();
            }
        };
        run.run();
        assertEquals(State.CANCELLED, run.state());
        assertEquals(4, run.measured().get(0).runsMs().length, "the turn that was cut short does not count");
    }

    @Test
    void aRunIsCancelledWhileThePhoneCools() {
        phone.conditions = new Phone.Conditions(3, 1, true, 0);
        Run[] run = new Run[1];
        run[0] = new Run(new Job(Arrays.asList(small()), 1, 1, 1, 1, null), phone, phone, one -> {
            if (!one.message().isEmpty()) {
                one.cancel();
            }
        });
        run[0].run();
        assertEquals(State.CANCELLED, run[0].state());
        assertTrue(phone.slept < Run.COOLING_MS);
    }

    @Test
    void itRunsOnce() {
        Run run = run(1, small());
        run.run();
        int before = phone.runs;
        run.run();
        assertEquals(before, phone.runs);
        assertEquals(State.FINISHED, run.state());
    }

    @Test
    void aThrottledTurnIsRejectedAndRepeated() {
        Run run = run(1, small());
        int[] asked = {0};
        phone.onConditions = () -> phone.conditions = new Phone.Conditions(++asked[0] == 2 ? 2 : 0, 1, true, 0);
        run.run();
        assertEquals(State.FINISHED, run.state());
        assertEquals(1, run.rejected());
        assertEquals(4, run.measured().get(0).runsMs().length, "of the second attempt alone");
        assertEquals(Run.COOLING_MS, phone.slept);
        assertEquals("", run.message());
    }

    @Test
    void aPhoneThatStaysThrottledEndsTheRun() {
        phone.conditions = new Phone.Conditions(0, 0.6, true, 0);
        Run run = run(1, small());
        run.run();
        assertEquals(State.FAILED, run.state());
        assertTrue(run.message().startsWith("Measuring was given up after 10 pauses because its cores are held at 60 %"));
        assertEquals(10, run.rejected());
        assertEquals(0, run.measured().get(0).runsMs().length);
    }

    @Test
    void aTurnBehindAnotherAppDoesNotCount() {
        Run run = run(1, small());
        int[] asked = {0};
        phone.onConditions = () -> phone.conditions = new Phone.Conditions(-1, 1, ++asked[0] != 2, 0);
        run.run();
        assertEquals(1, run.rejected());
        assertEquals(State.FINISHED, run.state());
    }

    @Test
    void aTurnInWhichTheAppWasLeftDoesNotCount() {
        String[] told = {""};
        Run run = new Run(run(1, small()).job, phone, phone, one -> told[0] += one.message());
        int inTheTurn = 2 + 2 + 3; // after two warm-ups
        phone.beforeRun = () -> {
            if (phone.runs == inTheTurn) { // left, and back before its end
                phone.conditions = new Phone.Conditions(0, 1, true, 1);
            }
        };
        run.run();
        assertEquals(State.FINISHED, run.state());
        assertEquals(1, run.rejected());
        assertEquals(4, run.measured().get(0).runsMs().length, "of the second attempt alone");
        assertEquals("Waiting because the app was left during a measurement.", told[0]);
    }

    @Test
    void aFileThatIsRefusedLeavesTheOthers() {
        phone.refused.put("nnapi", new Complaint("This phone has no NNAPI."));
        Run run = run(2, small(), large());
        run.run();
        assertEquals(State.FINISHED, run.state());
        assertEquals("This phone has no NNAPI.", run.measured().get(1).error());
        assertEquals(8, run.measured().get(0).runsMs().length);
        assertEquals(4, run.done(), "its turns are passed over");
    }

    @Test
    void aFileThatFailsInTheMiddleHasNoTimes() {
        Run run = run(3, small(), large());
        phone.beforeRun = () -> {
            if (phone.runs == 12) {
                phone.refused.put("nnapi", new Complaint("The driver was lost."));
            }
        };
        run.run();
        assertEquals(State.FINISHED, run.state());
        assertEquals("The driver was lost.", run.measured().get(1).error());
        assertEquals(0, run.measured().get(1).runsMs().length);
        assertNull(run.measured().get(0).error());
    }

    @ParameterizedTest
    @ValueSource(classes = {IllegalStateException.class, OutOfMemoryError.class})
    void aBugWithOneFileLeavesTheOthers(Class<?> bug) {
        for (int when : new int[] {0, 1, 4, 10}) { // loading it, warming it up, in its first turn and in its second
            StandIn one = new StandIn();
            one.onOpen = () -> fail(bug, when == 0 && one.opened == 1);
            one.beforeRun = () -> {
                int size = one.sizes.get(one.sizes.size() - 1);
                fail(bug, size == 1000 && Collections.frequency(one.sizes, size) == when);
            };
            Run run = new Run(new Job(Arrays.asList(large(), small()), 2, 4, 3, 1, null), one, one, ignored -> {});
            run.run();
            assertEquals(State.FINISHED, run.state(), run.message());
            assertEquals("The app failed: " + bug.getName() + ": broken.", run.measured().get(0).error());
            assertEquals(0, run.measured().get(0).runsMs().length);
            assertEquals(12, run.measured().get(1).runsMs().length);
            assertEquals(0, one.open);
        }
    }

    private static void fail(Class<?> bug, boolean now) {
        if (now && bug == OutOfMemoryError.class) {
            throw new OutOfMemoryError("broken");
        }
        if (now) {
            throw new IllegalStateException("broken");
        }
    }

    @Test
    void aFileWhoseOutputHasNoDimensionsIsNamed(@TempDir Path root) throws Exception {
        phone.shape = new int[] {};
        Export export = Export.read(Files.folder(Files.export(root.resolve("a"))));
        Run run = run(1, new Job.Case(new Job.Model("a", export.model, 0, null, export), 1, "none"), small());
        run.run();
        assertEquals(State.FINISHED, run.state(), run.message());
        assertEquals("a/labels.txt has 10 labels, and the file has 1 output.", run.measured().get(0).error());
        assertEquals(4, run.measured().get(1).runsMs().length);
    }

    @Test
    void aRunOfNothingButRefusedFilesFails() {
        phone.refused.put("none", new Complaint("The file needs the operator GELU."));
        Run run = run(1, small());
        run.run();
        assertEquals(State.FAILED, run.state());
        assertEquals("No file can be measured; the first says: The file needs the operator GELU.", run.message());
    }

    @Test
    void aBugEndsTheRunWithItsName() {
        Run run = run(1, small());
        phone.onConditions = () -> fail(IllegalStateException.class, true);
        run.run();
        assertEquals(State.FAILED, run.state());
        assertEquals("The app failed: java.lang.IllegalStateException: broken.", run.message());
        assertEquals(0, phone.open);
    }

    @Test
    void labelsThatDoNotMatchDropTheFile(@TempDir Path root) throws Exception {
        phone.shape = new int[] {1, 9};
        Export export = Export.read(Files.folder(Files.export(root.resolve("a"))));
        Run run = new Run(Job.ofExports(Collections.singletonList(export), 1), phone, phone, this::note);
        run.run();
        assertEquals(State.FAILED, run.state());
        assertTrue(run.message().contains("has 10 labels, and the file has 9 outputs"));
    }

    @Test
    void finalStatesAreThree() {
        int n = 0;
        for (State state : State.values()) {
            n += state.isFinal() ? 1 : 0;
        }
        assertEquals(3, n);
        assertFalse(State.ROUNDS.isFinal());
        assertNotNull(new Phone.Conditions(2, 1, true, 0).objection());
        assertNull(new Phone.Conditions(1, 1, true, 0).objection());
        assertNull(new Phone.Conditions(-1, 1, true, 0).objection(), "a phone that does not tell its heat");
    }
}
