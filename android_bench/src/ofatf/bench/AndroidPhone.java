package ofatf.bench;

import android.content.Context;
import android.os.Build;
import android.os.PowerManager;
import java.io.BufferedReader;
import java.io.FileReader;
import java.io.IOException;
import ofatf.core.Phone;
import ofatf.core.Words;
import org.json.JSONException;
import org.json.JSONObject;

/** The phone that this runs on. */
final class AndroidPhone implements Phone {
    private static final String CPUS = "/sys/devices/system/cpu/cpu";
    private final PowerManager power;

    AndroidPhone(Context context) {
        power = (PowerManager) context.getSystemService(Context.POWER_SERVICE);
    }

    @Override
    public JSONObject facts() {
        try {
            return new JSONObject()
                .put("name", Words.deviceName(Build.MANUFACTURER, Build.MODEL))
                .put("model", Build.MANUFACTURER + " " + Build.MODEL)
                .put("soc", soc())
                .put("os", "Android " + Build.VERSION.RELEASE);
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    public Conditions conditions() {
        return new Conditions(thermalStatus(), clockShare(), MainActivity.isInFront(), MainActivity.timesLeft());
    }

    @Override
    public long nanos() {
        return System.nanoTime();
    }

    @Override
    public void sleep(long ms) throws InterruptedException {
        Thread.sleep(ms);
    }

    /** From Android 12 on; before, the name of the board. */
    private static String soc() {
        try {
            return (String) Build.class.getField("SOC_MODEL").get(null);
        } catch (ReflectiveOperationException older) {
            return Build.BOARD;
        }
    }

    /** From Android 10 on; -1 before. By reflection, so that it compiles against an older platform. */
    private int thermalStatus() {
        try {
            return (Integer) PowerManager.class.getMethod("getCurrentThermalStatus").invoke(power);
        } catch (ReflectiveOperationException older) {
            return -1;
        }
    }

    private static double clockShare() {
        double least = 1;
        for (int core = 0; core < Runtime.getRuntime().availableProcessors(); core++) {
            double limit = number(CPUS + core + "/cpufreq/scaling_max_freq");
            double highest = number(CPUS + core + "/cpufreq/cpuinfo_max_freq");
            if (limit > 0 && highest > 0) {
                least = Math.min(least, limit / highest);
            }
        }
        return least;
    }

    /** 0 where the phone keeps it to itself. */
    private static double number(String path) {
        try (BufferedReader reader = new BufferedReader(new FileReader(path))) {
            return Double.parseDouble(reader.readLine().trim());
        } catch (IOException | RuntimeException hidden) {
            return 0;
        }
    }
}
