"""Writes the Kotlin class with which an Android application runs a LiteRT file."""

from pathlib import Path

FILE = "FaceEmbedder.kt"
TEMPLATE = """\
// Dependency: com.google.ai.edge.litert:litert (or org.tensorflow:tensorflow-lite).
// Copy {model} into src/main/assets.
package identity.registry

import android.content.Context
import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.tensorflow.lite.Interpreter

/**
 * Embeds an aligned face: a bitmap of SIZE x SIZE pixels in which eyes, nose and mouth lie at the positions of the
 * registry's alignment. The embedding has length 1; the score of two faces is the sum of the products of their numbers.
 */
class FaceEmbedder(context: Context, file: String = "{model}", threads: Int = 2) : AutoCloseable {{
    private val interpreter = context.assets.openFd(file).use {{ asset ->
        asset.createInputStream().channel.use {{ channel ->
            val model = channel.map(FileChannel.MapMode.READ_ONLY, asset.startOffset, asset.declaredLength)
            Interpreter(model, Interpreter.Options().setNumThreads(threads))
        }}
    }}
    private val pixels = IntArray(SIZE * SIZE)
    private val input = ByteBuffer.allocateDirect(4 * 3 * SIZE * SIZE).order(ByteOrder.nativeOrder())

    fun embed(face: Bitmap): FloatArray {{
        val scaled = Bitmap.createScaledBitmap(face, SIZE, SIZE, true)
        scaled.getPixels(pixels, 0, SIZE, 0, 0, SIZE, SIZE)
        input.rewind()
        for (pixel in pixels) {{
            for (shift in intArrayOf(16, 8, 0)) input.putFloat((((pixel shr shift) and 0xFF) - 127.5f) / 128f)
        }}
        val output = Array(1) {{ FloatArray(DIMENSION) }}
        interpreter.run(input, output)
        return output[0]
    }}

    override fun close() = interpreter.close()

    companion object {{
        const val SIZE = {size}
        const val DIMENSION = {dimension}

        fun score(a: FloatArray, b: FloatArray): Float = a.indices.fold(0f) {{ sum, i -> sum + a[i] * b[i] }}
    }}
}}
"""


def write_snippet(folder: Path, model: str, size: int, dimension: int) -> Path:
    """Writes the class for a model of colour pictures and returns its path.

    Args:
        model: name of the LiteRT file.
        size: side of the input in pixels.
    """
    path = folder / FILE
    path.write_text(TEMPLATE.format(model=model, size=size, dimension=dimension))
    return path
