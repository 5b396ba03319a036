package ofatf.bench;

import android.content.Context;
import android.graphics.Canvas;
import android.graphics.Paint;
import android.text.Layout;
import android.text.StaticLayout;
import android.text.TextPaint;
import android.view.View;
import java.util.ArrayList;
import java.util.List;
import ofatf.core.Numbers;
import ofatf.core.Results;
import ofatf.core.Run;
import ofatf.core.Words;

/** The table: for each file and setting what was measured, beside the prediction, and a histogram of the runs. */
final class TimesView extends View {
    private final float unit = getResources().getDisplayMetrics().density;
    private final TextPaint bold = new TextPaint(Paint.ANTI_ALIAS_FLAG);
    private final TextPaint plain = new TextPaint(Paint.ANTI_ALIAS_FLAG);
    private final Paint bar = new Paint();
    private final List<Row> rows = new ArrayList<>();
    private List<Run.Measured> measured = new ArrayList<>();

    /** A row as it is drawn. */
    private static final class Row {
        StaticLayout what;
        StaticLayout times;
        int[] counts;
        float height;
    }

    TimesView(Context context, int colour) {
        super(context);
        bold.setTextSize(15 * getResources().getDisplayMetrics().scaledDensity);
        bold.setFakeBoldText(true);
        bold.setColor(colour);
        plain.setTextSize(13 * getResources().getDisplayMetrics().scaledDensity);
        plain.setColor(colour);
        bar.setColor(0xFF3F7FBF);
    }

    void show(List<Run.Measured> next) {
        measured = next;
        requestLayout();
        invalidate();
    }

    @Override
    protected void onMeasure(int widthSpec, int heightSpec) {
        int width = Math.max(1, MeasureSpec.getSize(widthSpec));
        rows.clear();
        float height = 0;
        StringBuilder spoken = new StringBuilder();
        for (Run.Measured one : measured) {
            String[] words = Words.row(one);
            double[] runsMs = one.runsMs();
            Row row = new Row();
            row.what = new StaticLayout(words[0], bold, width, Layout.Alignment.ALIGN_NORMAL, 1, 0, false);
            row.times = new StaticLayout(words[1], plain, width, Layout.Alignment.ALIGN_NORMAL, 1, 0, false);
            row.counts = runsMs.length == 0 ? null : Numbers.histogram(runsMs, Results.histogramEdges(runsMs));
            row.height = row.what.getHeight() + row.times.getHeight() + (row.counts == null ? 12 : 52) * unit;
            height += row.height;
            rows.add(row);
            spoken.append(words[0]).append(": ").append(words[1]).append(". ");
        }
        setContentDescription(spoken);
        setMeasuredDimension(width, (int) Math.ceil(height));
    }

    @Override
    protected void onDraw(Canvas canvas) {
        float top = 0;
        for (Row row : rows) {
            canvas.save();
            canvas.translate(0, top);
            row.what.draw(canvas);
            canvas.translate(0, row.what.getHeight());
            row.times.draw(canvas);
            canvas.restore();
            if (row.counts != null) {
                drawBars(canvas, row.counts, top + row.what.getHeight() + row.times.getHeight() + 4 * unit, 36 * unit);
            }
            top += row.height;
        }
    }

    private void drawBars(Canvas canvas, int[] counts, float top, float height) {
        int most = 1;
        for (int count : counts) {
            most = Math.max(most, count);
        }
        float width = (float) getWidth() / counts.length;
        for (int i = 0; i < counts.length; i++) {
            float length = height * counts[i] / most;
            canvas.drawRect(i * width, top + height - length, (i + 1) * width - 1, top + height, bar);
        }
    }
}
