package ofatf.core;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What an interpreter says, in the words of this app. */
public final class Interpreters {
    private static final Pattern BUILT_IN =
        Pattern.compile("find op for builtin opcode '([A-Z0-9_]+)'(?: version '(\\d+)')?");
    private static final Pattern CUSTOM = Pattern.compile("unresolved custom op: ([\\w.-]+)");
    private static final int MOST = 200;

    private Interpreters() {}

    /** A sentence about why a file could not be made ready. */
    public static Complaint complaint(String said) {
        String text = said == null ? "nothing" : said.trim().replaceAll("\\s+", " ");
        Matcher builtIn = BUILT_IN.matcher(text);
        if (builtIn.find()) {
            String version = builtIn.group(2) == null ? "" : " in version " + builtIn.group(2);
            return new Complaint(
                "The file needs the operator " + builtIn.group(1) + version + ", which this app's LiteRT lacks."
            );
        }
        Matcher custom = CUSTOM.matcher(text);
        if (custom.find()) {
            return new Complaint(
                "The file needs the custom operator " + custom.group(1) + ", which this app's LiteRT lacks."
            );
        }
        return new Complaint("LiteRT refuses the file: " + (text.length() > MOST ? text.substring(0, MOST) : text));
    }
}
