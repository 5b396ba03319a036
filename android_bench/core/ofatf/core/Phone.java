package ofatf.core;

import org.json.JSONObject;

/** The phone: its clock, its heat, and facts about it. */
public interface Phone {
    /** {@code name}, {@code model}, {@code soc}, {@code os}, as a latency table names them. */
    JSONObject facts();

    Conditions conditions();

    long nanos();

    void sleep(long ms) throws InterruptedException;

    /** What a measurement depends on, at one moment. */
    final class Conditions {
        /** Android's ThrottlingSeverity from which on the phone slows itself down. */
        static final int MODERATE = 2;
        /** 0 for none, -1 for not known. */
        public final int thermalStatus;
        /** Of the cores, in kHz: their present limit over their highest speed, the least of all; 1 if not known. */
        public final double clockShare;
        public final boolean shown;
        /** How often this app was left so far. */
        public final int timesLeft;

        public Conditions(int thermalStatus, double clockShare, boolean shown, int timesLeft) {
            this.thermalStatus = thermalStatus;
            this.clockShare = clockShare;
            this.shown = shown;
            this.timesLeft = timesLeft;
        }

        /** Why a measurement would not count now; null if it would. */
        public String objection() {
            if (!shown) {
                return "another app is in front";
            }
            if (thermalStatus >= MODERATE) {
                return "the phone is hot (thermal status " + thermalStatus + ")";
            }
            return clockShare < 1 ? "its cores are held at " + Math.round(100 * clockShare) + " % of their speed" : null;
        }

        /** Why a measurement from an earlier moment until now does not count; null if it does. */
        public String objectionSince(Conditions before) {
            return timesLeft == before.timesLeft ? objection() : "the app was left during a measurement";
        }
    }
}
