package ofatf.bench;

import android.app.Activity;
import android.os.Bundle;
import android.view.WindowManager.LayoutParams;
import android.widget.TextView;

/** What is seen during a measurement. Android gives an app in front cores and clocks that others do not get. */
public final class Front extends Activity {
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
}
