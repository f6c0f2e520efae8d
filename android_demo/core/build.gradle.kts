plugins {
    `java-library`
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

// What Java calls later has is not there on older phones.
tasks.withType<JavaCompile>().configureEach {
    options.release = 8
    options.encoding = "UTF-8"
}

// The runtime's classes are of Java 17, which D8 takes.
listOf("compileClasspath", "testCompileClasspath", "testRuntimeClasspath").forEach {
    configurations.named(it) {
        attributes { attribute(TargetJvmVersion.TARGET_JVM_VERSION_ATTRIBUTE, 17) }
    }
}

dependencies {
    // The app brings the runtime; here its classes are enough.
    compileOnly(libs.onnxruntime.java)
    testImplementation(libs.onnxruntime.java)
}
