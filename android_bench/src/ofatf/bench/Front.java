package ofatf.bench;

import android.app.Activity;
import android.os.Bundle;
import android.view.WindowManager.LayoutParams;
import android.widget.TextView;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * What is seen during a measurement. Android gives an app in front cores and clocks that others do not get.
 *
 * <p>Each measurement has a process of its own, so that its state is static.
 */
public final class Front extends Activity {
    private static final int PATIENCE_S = 10;
    private static final CountDownLatch SHOWN = new CountDownLatch(1);
    private static volatile boolean left;

    /** Whether it came to the front, for which it has some seconds. */
    static boolean isShown() throws InterruptedException {
        return SHOWN.await(PATIENCE_S, TimeUnit.SECONDS);
    }

    /** Whether something else has been in front since. */
    static boolean wasLeft() {
        return left;
    }

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        getWindow().addFlags(
            LayoutParams.FLAG_KEEP_SCREEN_ON
                | LayoutParams.FLAG_TURN_SCREEN_ON
                | LayoutParams.FLAG_SHOW_WHEN_LOCKED
                | LayoutParams.FLAG_DISMISS_KEYGUARD);
        TextView text = new TextView(this);
        text.setText("Measuring. Leave the phone alone.");
        setContentView(text);
    }

    @Override
    protected void onResume() {
        super.onResume();
        SHOWN.countDown();
    }

    @Override
    protected void onPause() {
        left = true;
        super.onPause();
    }
}
