plugins {
    alias(libs.plugins.android.application)
}

/** Takes of a query bundle what the app needs of it. */
abstract class CopyBundle : DefaultTask() {
    @get:InputDirectory
    abstract val bundle: DirectoryProperty

    @get:OutputDirectory
    abstract val output: DirectoryProperty

    @get:javax.inject.Inject
    abstract val files: FileSystemOperations

    @TaskAction
    fun copy() {
        val card = bundle.file("card.json").get().asFile
        require(card.isFile) { "no query bundle at ${card.parent}: make one with `cli export`" }
        files.sync {
            from(bundle) { include("card.json", "*.photo.onnx") }
            into(output.dir("query"))
        }
    }
}

// -Pbundle=FOLDER, from this project's folder; or the demo's.
androidComponents {
    onVariants { variant ->
        val copy = tasks.register<CopyBundle>("copyBundleFor${variant.name}") {
            val chosen = providers.gradleProperty("bundle").orElse("../demo-run/query")
            bundle.set(rootProject.layout.projectDirectory.dir(chosen))
        }
        variant.sources.assets?.addGeneratedSourceDirectory(copy, CopyBundle::output)
    }
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

    androidResources { noCompress += "onnx" }
    packaging { jniLibs { useLegacyPackaging = true } }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
}

dependencies {
    implementation(project(":core"))
    implementation(libs.onnxruntime.android)
}
