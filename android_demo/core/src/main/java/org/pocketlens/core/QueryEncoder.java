package org.pocketlens.core;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.util.Collections;

/** Runs an exported encoder: a picture in, a unit vector out. Preprocessing is in the file. */
public final class QueryEncoder implements AutoCloseable {
    // Below this an int8 encoder is one that this device computes wrongly (export/runtime.py).
    private static final double MIN_PROBE_COSINE = 0.98;

    public final Contract contract;
    private final OrtEnvironment environment;
    private final OrtSession session;

    private QueryEncoder(OrtEnvironment environment, OrtSession session, Contract contract) {
        this.environment = environment;
        this.session = session;
        this.contract = contract;
    }

    /**
     * Opens an encoder.
     *
     * @param model the bytes of an encoder file of kind photo
     * @param name the file, for messages
     * @param threads how many to compute with; 0 takes every core
     */
    public static QueryEncoder open(byte[] model, String name, int threads) throws LensException {
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        OrtSession session = null;
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            options.setIntraOpNumThreads(threads);
            session = environment.createSession(model, options);
            String told = session.getMetadata().getCustomMetadataValue(Contract.KEY).orElse(null);
            if (told == null) {
                throw new LensException(name + ": not an encoder exported by pocketlens");
            }
            Contract contract = Contract.read(told, name);
            QueryEncoder encoder = new QueryEncoder(environment, session, contract);
            encoder.refuseSaturation(name);
            session = null;
            return encoder;
        } catch (OrtException error) {
            throw new LensException(name + ": cannot be opened: " + error.getMessage(), error);
        } finally {
            closeQuietly(session);
        }
    }

    /** Returns the unit vector of a picture. */
    public float[] encode(Photo photo) throws LensException {
        Photo taken = photo.enlarged();
        ByteBuffer pixels = ByteBuffer.allocateDirect(taken.rgb.length);
        pixels.put(taken.rgb);
        pixels.rewind();
        long[] shape = {taken.height, taken.width, 3};
        try (OnnxTensor image =
                        OnnxTensor.createTensor(environment, pixels, shape, OnnxJavaType.UINT8);
                OrtSession.Result found = session.run(Collections.singletonMap("image", image))) {
            return (float[]) found.get(0).getValue();
        } catch (OrtException error) {
            throw new LensException("the picture cannot be encoded: " + error.getMessage(), error);
        }
    }

    /** Returns the version of ONNX Runtime. */
    public static String runtime() {
        return "onnxruntime " + OrtEnvironment.getEnvironment().getVersion();
    }

    @Override
    public void close() {
        closeQuietly(session);
    }

    private static void closeQuietly(OrtSession session) {
        try {
            if (session != null) {
                session.close();
            }
        } catch (OrtException error) {
            throw new IllegalStateException(error);
        }
    }

    private void refuseSaturation(String name) throws LensException {
        if (contract.probe == null) {
            return;
        }
        float[] vector = encode(Photo.probe());
        double cosine = 0;
        for (int i = 0; i < vector.length; i++) {
            cosine += vector[i] * contract.probe[i];
        }
        if (!(cosine >= MIN_PROBE_COSINE)) {
            throw new LensException(name + ": this device computes its 8-bit products wrongly");
        }
    }
}
