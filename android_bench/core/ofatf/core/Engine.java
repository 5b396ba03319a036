package ofatf.core;

/** What runs files: LiteRT on a phone. */
public interface Engine {
    String version();

    /**
     * Makes a file ready to run.
     *
     * @param model the file
     * @param threads threads of the interpreter
     * @param delegate "none", "xnnpack" or "nnapi"
     * @param inSize height and width to resize its input to; 0 to leave it
     * @throws Complaint the file is damaged, needs what the runtime lacks, or the delegate is not there
     */
    Session open(byte[] model, int threads, String delegate, int inSize) throws Complaint;
}
