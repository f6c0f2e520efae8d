plugins {
    `java-library`
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

dependencies {
    // The app brings the runtime; here its classes are enough.
    compileOnly(libs.onnxruntime.java)
    testImplementation(libs.onnxruntime.java)
}
