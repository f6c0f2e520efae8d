package org.pocketlens.core;

/** What went wrong, in words for the user. */
public final class LensException extends Exception {
    private static final long serialVersionUID = 1L;

    /** Holds what to tell. */
    public LensException(String message) {
        super(message);
    }

    /** Holds what to tell, and what was thrown. */
    public LensException(String message, Throwable cause) {
        super(message, cause);
    }
}
