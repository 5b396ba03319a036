package ofatf.core;

/** What a user can mend, in one sentence. */
public final class Complaint extends Exception {
    private static final long serialVersionUID = 1;

    public Complaint(String sentence) {
        super(sentence);
    }
}
