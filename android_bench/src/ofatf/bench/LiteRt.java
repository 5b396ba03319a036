package ofatf.bench;

import android.os.Build;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import ofatf.core.Complaint;
import ofatf.core.Engine;
import ofatf.core.Interpreters;
import ofatf.core.Picture;
import ofatf.core.Preprocessing;
import ofatf.core.Session;
import org.tensorflow.lite.Interpreter;
import org.tensorflow.lite.Tensor;
import org.tensorflow.lite.TensorFlowLite;
import org.tensorflow.lite.nnapi.NnApiDelegate;

/** The LiteRT that is packed into this app. */
final class LiteRt implements Engine {
    @Override
    public String version() {
        try {
            return TensorFlowLite.runtimeVersion();
        } catch (RuntimeException | LinkageError error) {
            return "unknown";
        }
    }

    @Override
    public Session open(byte[] model, int threads, String delegate, int inSize) throws Complaint {
        NnApiDelegate nnApi = null;
        Interpreter interpreter = null;
        try {
            Interpreter.Options options = new Interpreter.Options();
            options.setNumThreads(threads);
            options.setUseXNNPACK(delegate.equals("xnnpack"));
            if (delegate.equals("nnapi")) {
                if (Build.VERSION.SDK_INT < 27) {
                    throw new Complaint("This phone has no NNAPI: Android 8.1 was the first with it.");
                }
                nnApi = new NnApiDelegate(new NnApiDelegate.Options().setUseNnapiCpu(false));
                options.addDelegate(nnApi);
            }
            ByteBuffer content = ByteBuffer.allocateDirect(model.length).order(ByteOrder.nativeOrder());
            content.put(model).rewind();
            interpreter = new Interpreter(content, options);
            if (inSize > 0) {
                int[] shape = interpreter.getInputTensor(0).shape().clone();
                if (shape.length != 4) {
                    throw new Complaint("The file's input has " + shape.length + " dimensions: its size cannot be changed.");
                }
                shape[1] = inSize;
                shape[2] = inSize;
                interpreter.resizeInput(0, shape);
            }
            interpreter.allocateTensors();
            return new Opened(interpreter, nnApi);
        } catch (Complaint | OutOfMemoryError error) {
            close(interpreter, nnApi);
            throw error;
        } catch (RuntimeException | LinkageError error) {
            close(interpreter, nnApi);
            throw Interpreters.complaint(error.getMessage());
        }
    }

    private static void close(Interpreter interpreter, NnApiDelegate nnApi) {
        if (interpreter != null) {
            interpreter.close();
        }
        if (nnApi != null) {
            nnApi.close();
        }
    }

    private static final class Opened implements Session {
        private final Interpreter interpreter;
        private final NnApiDelegate nnApi;
        private final Object[] inputs;
        private final Map<Integer, Object> outputs = new HashMap<>();

        Opened(Interpreter interpreter, NnApiDelegate nnApi) {
            this.interpreter = interpreter;
            this.nnApi = nnApi;
            inputs = new Object[interpreter.getInputTensorCount()];
            Random random = new Random(0);
            for (int i = 0; i < inputs.length; i++) {
                inputs[i] = noise(interpreter.getInputTensor(i), random);
            }
            for (int i = 0; i < interpreter.getOutputTensorCount(); i++) {
                outputs.put(i, empty(interpreter.getOutputTensor(i)));
            }
        }

        @Override
        public int nOutputs() {
            return Outputs.count(interpreter.getOutputTensor(0).shape());
        }

        @Override
        public long run() throws Complaint {
            return run(inputs);
        }

        private long run(Object[] values) throws Complaint {
            for (Object value : values) {
                ((ByteBuffer) value).rewind();
            }
            for (Object value : outputs.values()) {
                ((ByteBuffer) value).rewind();
            }
            try {
                long start = System.nanoTime();
                interpreter.runForMultipleInputsOutputs(values, outputs);
                long all = System.nanoTime() - start;
                Long alone = interpreter.getLastNativeInferenceDurationNanoseconds();
                return alone == null ? all : alone;
            } catch (RuntimeException error) {
                throw new Complaint("LiteRT stopped in the middle: " + error.getMessage());
            }
        }

        @Override
        public float[] scores(Picture square, Preprocessing preprocessing) throws Complaint {
            Tensor image = interpreter.getInputTensor(0);
            int[] shape = image.shape();
            if (inputs.length != 1 || shape.length != 4 || shape[1] != square.height || shape[2] != square.width || shape[3] != 3) {
                throw new Complaint(
                    "The file takes inputs of shape " + java.util.Arrays.toString(shape) + "; its manifest says [1, "
                        + square.height + ", " + square.width + ", 3]."
                );
            }
            Tensor.QuantizationParams in = image.quantizationParams();
            Object[] values = {preprocessing.input(square, type(image), in.getScale(), in.getZeroPoint())};
            run(values);
            Tensor scores = interpreter.getOutputTensor(0);
            Tensor.QuantizationParams out = scores.quantizationParams();
            return Outputs.floats((ByteBuffer) outputs.get(0), type(scores), nOutputs(), out.getScale(), out.getZeroPoint());
        }

        @Override
        public void close() {
            LiteRt.close(interpreter, nnApi);
        }

        private static String type(Tensor tensor) {
            return tensor.dataType().toString().toLowerCase(Locale.ROOT);
        }

        private static ByteBuffer empty(Tensor tensor) {
            return ByteBuffer.allocateDirect(tensor.numBytes()).order(ByteOrder.nativeOrder());
        }

        /** Values as pixels could have them. */
        private static ByteBuffer noise(Tensor tensor, Random random) {
            ByteBuffer buffer = empty(tensor);
            if (type(tensor).equals("float32")) {
                while (buffer.hasRemaining()) {
                    buffer.putFloat(2 * random.nextFloat() - 1);
                }
            } else {
                byte[] bytes = new byte[buffer.remaining()];
                random.nextBytes(bytes);
                buffer.put(bytes);
            }
            return buffer;
        }
    }
}
