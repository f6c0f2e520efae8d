plugins {
    alias(libs.plugins.android.application)
}

// The query bundle that the app encodes with: -Pbundle=FOLDER, or the demo's.
val bundle = file(providers.gradleProperty("bundle").getOrElse("../../demo-run/query"))
val assets = layout.buildDirectory.dir("query-assets")

val copyBundle = tasks.register<Sync>("copyBundle") {
    from(bundle) { include("card.json", "*.photo.onnx") }
    into(assets.map { it.dir("query") })
    doFirst { require(bundle.resolve("card.json").isFile) { "no query bundle at $bundle" } }
}

android {
    namespace = "org.pocketlens.demo"
    compileSdk = libs.versions.target.sdk.get().toInt()

    defaultConfig {
        applicationId = "org.pocketlens.demo"
        minSdk = libs.versions.min.sdk.get().toInt()
        targetSdk = libs.versions.target.sdk.get().toInt()
        versionCode = 1
        versionName = "0.1.0"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }

    sourceSets["main"].assets.srcDir(assets)
    androidResources { noCompress += "onnx" }
    packaging { jniLibs { useLegacyPackaging = true } }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
}

tasks.named("preBuild") { dependsOn(copyBundle) }

dependencies {
    implementation(project(":core"))
    implementation(libs.onnxruntime.android)
}
