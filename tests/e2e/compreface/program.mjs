// Uses every function of CompreFace's JavaScript SDK for recognition and verification, and prints what it answers.
//   node program.mjs SERVER PORT KEY FIRST SECOND   (two photos of different people, relative paths)
import { CompreFace } from "@exadel/compreface-js-sdk";

const [server, port, key, first, second] = process.argv.slice(2);
console.log = () => {}; // the SDK prints the key
const compreface = new CompreFace(server, port, { limit: 0, prediction_count: 2 });
const recognition = compreface.initFaceRecognitionService(key);
const verification = compreface.initFaceVerificationService(key);
const collection = () => recognition.getFaceCollection();
const subjects = () => recognition.getSubjects();

const answers = {};
answers.added = await collection().add(first, "ada");
answers.second = await collection().add(second, "grace");
answers.faces = await collection().list();
answers.subjects = await subjects().list();
answers.recognised = await recognition.recognize(first, {});
answers.same = await collection().verify(first, answers.added.image_id, {});
answers.other = await collection().verify(second, answers.added.image_id, {});
answers.pair = await verification.verify(first, second, {});
answers.renamed = await subjects().rename("grace", "hopper");
answers.created = await subjects().add("nobody");
answers.deleted = await collection().delete(answers.added.image_id);
answers.several = await collection().delete_multiple_images([answers.second.image_id]);
answers.noSubject = await subjects().delete("nobody");
answers.left = await subjects().deleteAll();
answers.error = await collection()
  .add("./nothing.png", "x")
  .catch((error) => ({ status: error.response.status, ...error.response.data }));
process.stdout.write(JSON.stringify(answers));
